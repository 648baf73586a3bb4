//! Where images come from and go to.
//!
//! A [`Source`] gives a manifest and the blobs it names, a [`Sink`] takes them; `transfer` moves images from any source
//! to any sink. Archives are read and written through the store, under a lease, since they can neither be read nor
//! written out of order.

pub mod archive;
pub mod dir;
pub mod engine;
pub mod ingest;
pub mod layout;
pub mod local;
pub mod location;
pub mod open;
pub mod remote;

use std::io::Read;

use anyhow::Result;

use crate::store::document::{Descriptor, Document};
use crate::transfer::progress::Bar;

/// A place to read one image (or index) from. Used by several threads at once.
pub trait Source: Sync {
    /// The manifest or index that was asked for.
    ///
    /// # Errors
    /// `NotFound`, and what the place says.
    fn top(&self) -> Result<Document>;

    /// A manifest that the top one names, verified.
    ///
    /// # Errors
    /// As [`Source::top`].
    fn document(&self, descriptor: &Descriptor) -> Result<Document>;

    /// A blob's bytes from `offset` on, not verified.
    ///
    /// # Errors
    /// As [`Source::top`].
    fn blob<'a>(&'a self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>>;

    /// Repositories of the registry `host` that should have the blobs, for mounting instead of sending.
    fn siblings(&self, _host: &str) -> Vec<String> {
        Vec::new()
    }
}

/// A place to write one image (or index) to. Used by several threads at once.
pub trait Sink: Sync {
    /// Tells of all blobs to come, before the first, so that nobody removes those that are there.
    ///
    /// # Errors
    /// What the place says.
    fn announce(&self, _blobs: &[Descriptor]) -> Result<()> {
        Ok(())
    }

    /// All `manifests` to come have their configs here now; their layers come next.
    ///
    /// # Errors
    /// A config that does not fit its manifest; what the place says.
    fn prepare(&self, _manifests: &[Document]) -> Result<()> {
        Ok(())
    }

    /// Takes a blob, verified, unless it is there; `bar` shows how far.
    ///
    /// # Errors
    /// The content is wrong; what the place says.
    fn put(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar) -> Result<()>;

    /// Takes a manifest whose blobs are all there; the `top` one gets the name and is the last call.
    ///
    /// # Errors
    /// What the place says.
    fn put_document(&self, document: &Document, top: bool) -> Result<()>;
}
