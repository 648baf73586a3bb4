//! The image that a bundle without mounts was made of, as a tree to compare its files with.

use anyhow::{Context as _, Result};
use sys::path::Root;

use super::record::Record;
use crate::build::work::Work;
use crate::layer::extracted::Layers;
use crate::layer::flat;
use crate::rootfs::view::View;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::Descriptor;

/// The image's files, for as long as it lives. The process must be in a mount namespace of its own.
pub enum Base {
    /// Mounted from shared layers.
    Mounted(View),
    /// Extracted once more: directories that links were kept for are in no shared layer.
    Copied(Root, #[expect(dead_code, reason = "holds the directory")] Work),
}

impl Base {
    /// The files of `layers`, lowest first, as the bundle of `record` had them at first.
    ///
    /// # Errors
    /// A layer is missing or damaged; no space.
    pub fn of(store: &Store, record: &Record, layers: &[(Descriptor, Digest)]) -> Result<Self> {
        if !record.form.keep_links {
            return Ok(Self::Mounted(View::open(store, &Layers::open(store.paths())?, layers)?));
        }
        let work = Work::new(store.paths())?;
        let path = work.path().join("base");
        flat::extract(store, layers, &path, (true, None))?;
        Ok(Self::Copied(Root::open(&path).context("open the image's files")?, work))
    }

    /// Their root.
    pub const fn root(&self) -> &Root {
        match self {
            Self::Mounted(view) => &view.root,
            Self::Copied(root, _) => root,
        }
    }
}
