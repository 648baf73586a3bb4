//! A layer that is extracted while its blob comes in: decompressed, hashed and applied beside the download, and put
//! under its name only when both the blob and the layer are what the image says.

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};

use super::apply::{self, Deletions};
use super::extracted::{Layers, claim, clear, extract_into, note_boot};
use super::read::Limits;
use crate::store::Store;
use crate::store::digest::{Algorithm, Digest};
use crate::store::document::Descriptor;
use crate::store::follow::{Follower, Received};

/// A layer being extracted. Dropped without [`Incoming::publish`], it leaves nothing.
pub struct Incoming {
    layers: Layers,
    diff_id: Digest,
    partial: PathBuf,
    /// Open, hence locked: nobody else extracts this layer or sweeps what we have of it.
    held: File,
    received: Received,
    extracting: Option<JoinHandle<Result<u64>>>,
}

impl Layers {
    /// Starts extracting the layer `diff_id` from `blob`, whose bytes are read from `follow` as they come. `None` where
    /// the layer is there already, where somebody else is at it, and where only [`Layers::ensure`] can say what is wrong.
    ///
    /// # Errors
    /// No space; no thread.
    pub fn incoming(
        &self,
        blob: &Descriptor,
        diff_id: &Digest,
        follow: Follower,
    ) -> Result<Option<Incoming>> {
        if diff_id.algorithm() != Algorithm::Sha256 || self.is_whole(diff_id)? {
            return Ok(None);
        }
        let partial = self.partial(diff_id);
        let Some(held) = claim(&partial, false)? else { return Ok(None) };
        if self.own(diff_id).exists() {
            let _ = fs::remove_dir(&partial);
            return Ok(None);
        }
        let received = follow.received();
        let start = || {
            clear(&partial)?;
            let dir = held.try_clone().context("keep the layer's directory")?;
            let (limits, diff_id) = (Limits::for_blob(blob.size), diff_id.clone());
            let options = apply::Options::new(Deletions::Kept, limits);
            let work = move || extract_into(follow, &dir, options, &diff_id);
            thread::Builder::new().name("apply".into()).spawn(work).context("start a thread")
        };
        match start() {
            Ok(thread) => {
                let (layers, diff_id) = (self.clone(), diff_id.clone());
                Ok(Some(Incoming { layers, diff_id, partial, held, received, extracting: Some(thread) }))
            }
            Err(err) => {
                let _ = fs::remove_dir_all(&partial);
                Err(err)
            }
        }
    }
}

impl Incoming {
    /// Waits for the last of it and puts it under its name. `blob` has been verified and stored.
    ///
    /// # Errors
    /// What is wrong with the layer; the disk is full. Then nothing of it is left.
    pub fn publish(mut self, store: &Store, blob: &Digest) -> Result<()> {
        let Some(extracting) = self.extracting.take() else { return Ok(()) };
        let done = extracting
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("an extracting thread ended badly")))
            .and_then(|bytes| note_boot(&self.held).map(|()| bytes))
            .and_then(|bytes| self.layers.publish(&self.partial, &self.diff_id).map(|()| bytes));
        match done {
            Ok(bytes) => store.note_unpacked(blob, bytes),
            Err(err) => {
                let _ = fs::remove_dir_all(&self.partial);
                return Err(err).with_context(|| format!("layer {}", self.diff_id.short()));
            }
        }
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(extracting) = self.extracting.take() {
            self.received.ended();
            let _ = extracting.join();
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}
