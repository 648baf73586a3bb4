//! An image's files, mounted read-only for as long as a command looks at them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sys::overlay::Overlay;
use sys::path::Root;

use crate::build::work::Work;
use crate::layer::extracted::Layers;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::Descriptor;

/// A mount that lives as long as its [`Work`]. The process must be in a mount namespace of its own
/// ([`crate::build::work::enter_private_mounts`]), so that a killed one leaves nothing mounted.
pub struct View {
    /// The files.
    pub root: Root,
    /// Unmounts when dropped.
    pub work: Work,
}

impl View {
    /// Mounts `layers`, lowest first, which a lease holds.
    ///
    /// # Errors
    /// A layer is missing or damaged; the kernel refuses.
    pub fn open(store: &Store, extracted: &Layers, layers: &[(Descriptor, Digest)]) -> Result<Self> {
        let lowers = extracted.ensure(store, layers, None)?;
        let empty = extracted.empty()?;
        let work = Work::new(store.paths())?;
        let target = work.path().join("view");
        fs::create_dir(&target).with_context(|| format!("make {}", target.display()))?;
        // Without an upper directory overlayfs wants two lower ones.
        let mut top_first: Vec<&Path> = lowers.iter().rev().map(PathBuf::as_path).collect();
        top_first.push(&empty);
        if top_first.len() > 1 {
            let overlay = Overlay { lowers: &top_first, upper: None, volatile: false, user_xattr: false };
            sys::overlay::mount(&overlay, &target).context("mount the layers")?;
        }
        let root = Root::open(&target).context("open the layers")?;
        Ok(Self { root, work })
    }
}
