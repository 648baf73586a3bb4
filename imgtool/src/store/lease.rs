//! Leases: what a running command has put or found in the store and no name holds yet is safe from the garbage
//! collector of any other command, and only as long as it runs.
//!
//! A lease is a file of digests, locked by its owner; the kernel frees the lock when the owner dies, whatever the way.
//! The order makes it safe: a digest is written to the lease under the store's shared lock *before* its blob is looked
//! for or moved into place, and the collector reads all leases under the exclusive lock.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use contracts::{atomic, name};

use super::Store;
use super::digest::Digest;
use super::document::{Descriptor, Kind};

/// A running command's claim on blobs; dropping it lets them go.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    path: PathBuf,
    file: File,
}

impl Store {
    /// A new, empty lease.
    ///
    /// # Errors
    /// The file cannot be made (no space, no permission).
    pub fn lease(&self) -> Result<Lease> {
        let (path, file) = create_locked(&self.root.join("leases"), "lease")?;
        Ok(Lease { store: self.clone(), path, file })
    }

    /// Holds `digests` beyond this command, under a name of the caller's choice (a build cache's key, say), replacing
    /// what that name held. Layers extracted from them are held too, where the digests name image configs.
    ///
    /// # Errors
    /// A bad name, or the file cannot be written.
    pub fn keep(&self, key: &str, digests: &[Digest]) -> Result<()> {
        name::check("cache key", key)?;
        let _lock = self.lock_shared()?;
        let text: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        atomic::write(&self.root.join("keep").join(key), text.as_bytes(), 0o600)
    }

    /// Lets go everything that [`Store::keep`] holds.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn unkeep_all(&self) -> Result<()> {
        // Whoever keeps holds the lock for it: none of their temporary files is taken away from under them.
        let _lock = self.lock()?;
        let dir = self.root.join("keep");
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let name = entry.with_context(|| format!("list {}", dir.display()))?.file_name();
            self.unkeep(&name.to_string_lossy())?;
        }
        Ok(())
    }

    /// Lets go what [`Store::keep`] held under `key`; nothing where there was nothing.
    ///
    /// # Errors
    /// A bad name, or the file cannot be removed.
    pub fn unkeep(&self, key: &str) -> Result<()> {
        name::check("cache key", key)?;
        match fs::remove_file(self.root.join("keep").join(key)) {
            Err(err) if err.kind() != ErrorKind::NotFound => {
                Err(err).with_context(|| format!("remove cache key {key}"))
            }
            _ => Ok(()),
        }
    }
}

impl Lease {
    /// Claims `digests` from now on: blobs that are there stay, blobs yet to come will stay. A diff id claims the layer
    /// extracted under it.
    ///
    /// # Errors
    /// The lease cannot be written (no space).
    pub fn hold<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Result<()> {
        let text: String = digests.into_iter().map(|digest| format!("{digest}\n")).collect();
        let _lock = self.store.lock_shared()?;
        (&self.file)
            .write_all(text.as_bytes())
            .with_context(|| format!("write lease {}", self.path.display()))
    }
}

impl Lease {
    /// Claims everything that `target` needs: its manifests, configs and layers.
    ///
    /// # Errors
    /// The manifest is missing; the lease cannot be written.
    pub fn hold_all(&self, target: &Descriptor) -> Result<()> {
        self.hold([&target.digest])?;
        let mut waiting = vec![target.clone()];
        while let Some(descriptor) = waiting.pop() {
            match self.store.document(&descriptor)?.kind {
                Kind::Manifest(manifest) => {
                    let layers = manifest.layers.iter().map(|layer| &layer.digest);
                    self.hold(std::iter::once(&manifest.config.digest).chain(layers))?;
                }
                Kind::Index(index) => {
                    self.hold(index.manifests.iter().map(|child| &child.digest))?;
                    // An index may be there with only some of its images.
                    waiting.extend(index.manifests.into_iter().filter(|child| self.store.has(&child.digest)));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A lease left behind is freed by the next collector, since its lock is gone.
        let _ = fs::remove_file(&self.path);
    }
}

/// Every digest under a live lease or a keep file. Leases of dead commands are removed on the way. The caller holds
/// the lock under which the holders look for what they hold: the store's for blobs, the layers' for extracted layers.
pub(super) fn held(root: &Path) -> Result<HashSet<Digest>> {
    let mut held = HashSet::new();
    for (dir, leases) in [("leases", true), ("keep", false)] {
        let dir = root.join(dir);
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
            if leases && remove_if_dead(&path)? {
                continue;
            }
            let text = match fs::read_to_string(&path) {
                Ok(text) => text,
                Err(err) if err.kind() == ErrorKind::NotFound => continue,
                Err(err) => return Err(err).with_context(|| format!("read {}", path.display())),
            };
            held.extend(text.lines().filter_map(|line| line.parse::<Digest>().ok()));
        }
    }
    Ok(held)
}

/// Makes a file of a fresh name in `dir` and locks it; the lock is the sign of life that [`remove_if_dead`] reads.
pub(super) fn create_locked(dir: &Path, prefix: &str) -> Result<(PathBuf, File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("{prefix}-{}-{serial}", std::process::id()));
        let opened = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path);
        let file = match opened {
            Ok(file) => file,
            // A dead process of the same pid (or of another pid namespace) left it.
            Err(err) if err.kind() == ErrorKind::AlreadyExists => continue,
            Err(err) => return Err(err).with_context(|| format!("make {}", path.display())),
        };
        file.lock().with_context(|| format!("lock {}", path.display()))?;
        // A collector may have seen the file between the open and the lock, and removed it as dead.
        if file.metadata().with_context(|| format!("look at {}", path.display()))?.nlink() > 0 {
            return Ok((path, file));
        }
    }
}

/// Removes the file of a dead owner and says so; `false` where the owner lives.
pub(super) fn remove_if_dead(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(true),
        Err(err) => return Err(err).with_context(|| format!("open {}", path.display())),
    };
    if file.try_lock().is_err() {
        return Ok(false);
    }
    match fs::remove_file(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(true),
    }
}
