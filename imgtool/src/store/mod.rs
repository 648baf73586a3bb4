//! The image store: a standard OCI image layout at `STORE/images`, plus locks, leases and half-received blobs that
//! other tools ignore.
//!
//! ```text
//! STORE/images/oci-layout  index.json       the layout; one entry per name in index.json
//! STORE/images/blobs/sha256/<hex>           written once, verified, never changed
//! STORE/images/partial/<name>               being received; locked by its receiver, resumable after it died
//! STORE/images/leases/<name>                blobs in use by a running command that no name holds yet
//! STORE/images/keep/<name>                  blobs held for later, such as a build cache
//! STORE/images/lock                         guards index.json and the moment of collecting garbage
//! ```

pub mod add;
pub mod additional;
pub mod blob;
pub mod config;
pub mod digest;
pub mod document;
pub mod follow;
pub mod gc;
pub mod image;
pub mod index;
pub mod lease;
pub mod platform;
pub mod unpacked;

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::lock::Lock;
use contracts::paths::Paths;
use contracts::{atomic, fault};

/// The store of this machine (or user).
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    paths: Paths,
    /// The layouts of the additional stores.
    others: Vec<PathBuf>,
}

impl Store {
    /// Opens the store, making it where it is missing.
    ///
    /// # Errors
    /// The directory cannot be made, or holds a layout of another version.
    pub fn open(paths: &Paths) -> Result<Self> {
        Ok(Self { others: additional::layouts(paths)?, ..Self::open_alone(paths)? })
    }

    /// [`Store::open`] without additional stores: one that is away must not keep what is here from being taken down.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_alone(paths: &Paths) -> Result<Self> {
        let store = Self { root: paths.images(), paths: paths.clone(), others: Vec::new() };
        match fs::read(store.root.join("oci-layout")) {
            Ok(bytes) => check_layout(&store.root, &bytes)?,
            Err(err) if err.kind() == ErrorKind::NotFound => store.create()?,
            Err(err) => {
                return Err(err).with_context(|| format!("open image store {}", store.root.display()));
            }
        }
        Ok(store)
    }

    /// Where the suite keeps its files.
    #[must_use]
    pub const fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Holds `index.json` alone; garbage is collected only under this lock.
    pub(crate) fn lock(&self) -> Result<Lock> {
        Lock::exclusive(&self.root.join("lock"))
    }

    /// Keeps garbage collection out for a moment, beside others who do the same.
    pub(crate) fn lock_shared(&self) -> Result<Lock> {
        Lock::shared(&self.root.join("lock"))
    }

    fn create(&self) -> Result<()> {
        // 0700: a layer may hold setuid programs that other users must not reach (CVE-2021-41091).
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for dir in ["blobs/sha256", "blobs/sha512", "partial", "leases", "keep"] {
            let path = self.root.join(dir);
            builder.create(&path).with_context(|| format!("make {}", path.display()))?;
        }
        let _lock = self.lock()?;
        let index = self.root.join("index.json");
        if !index.exists() {
            atomic::write_json(&index, &document::Index::default(), 0o644)?;
        }
        // Last, because `open` takes it as the sign that the rest stands.
        atomic::write(&self.root.join("oci-layout"), b"{\"imageLayoutVersion\":\"1.0.0\"}\n", 0o644)
    }
}

fn check_layout(root: &Path, bytes: &[u8]) -> Result<()> {
    let layout: serde_json::Value = serde_json::from_slice(bytes)
        .with_context(|| format!("parse {}", root.join("oci-layout").display()))?;
    let version = layout["imageLayoutVersion"].as_str().unwrap_or_default();
    if !version.starts_with("1.") {
        fault!(Unsupported, "image store {} has layout version \"{version}\"", root.display());
    }
    Ok(())
}
