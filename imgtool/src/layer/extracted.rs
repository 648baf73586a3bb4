//! `STORE/layers/`: every layer extracted once, under its diff id, shared by all that mount it.
//!
//! A layer is extracted into `.<hex>.partial`, which its extractor holds locked, and renamed when its diff id has been
//! verified: what is under its name is whole. No sync is made for it. Instead the layer remembers the boot it was
//! extracted in: after a crash of the machine it may lack content, so the next boot extracts it anew unless the
//! kernel had time to write it back and somebody used it since (then it was synced and the note taken off).

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use contracts::fault;
use contracts::lock::Lock;
use contracts::paths::Paths;

use super::apply::{self, Deletions};
use super::read::Limits;
use super::stream::Stream;
use crate::store::Store;
use crate::store::digest::{Algorithm, Digest};
use crate::store::document::Descriptor;

/// More layers than any builder makes; overlayfs itself stops at 500.
const MOST_LAYERS: usize = 500;
/// The kernel writes back what is older than 30 s.
const WRITTEN_BACK: u64 = 60;

/// The directory of extracted layers.
#[derive(Debug, Clone)]
pub struct Layers {
    dir: PathBuf,
    /// The directories of additional stores.
    others: Vec<PathBuf>,
}

impl Layers {
    /// Opens the directory, making it where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(paths: &Paths) -> Result<Self> {
        let dir = paths.layers();
        if !dir.is_dir() {
            fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
            // Set-user-id programs of images must stay out of other users' reach (CVE-2021-41091).
            fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        }
        let stores = paths.additional_stores().context("find the additional stores")?;
        let others = stores.into_iter().map(|store| store.join("layers"));
        // Only those of the same owner: another one's have deletions marked in attributes that we may not see, and could
        // be changed under us.
        let ours = |dir: &PathBuf| fs::metadata(dir).is_ok_and(|meta| meta.is_dir() && meta.uid() == 0);
        Ok(Self { dir, others: others.filter(ours).collect() })
    }

    /// Where a layer is, here or in an additional store, or would be here.
    #[must_use]
    pub fn path(&self, diff_id: &Digest) -> PathBuf {
        let own = self.own(diff_id);
        if self.others.is_empty() || own.is_dir() {
            return own;
        }
        self.elsewhere(diff_id).unwrap_or(own)
    }

    /// Where a layer of our own is, or would be.
    pub(super) fn own(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join(diff_id.hex())
    }

    /// Where an additional store has the layer. One that was extracted before a crash of the machine is not trusted,
    /// and extracted here.
    fn elsewhere(&self, diff_id: &Digest) -> Option<PathBuf> {
        self.others.iter().map(|dir| dir.join(diff_id.hex())).find(|path| {
            let Ok(dir) = File::open(path) else { return false };
            match sys::xattr::get(&dir, boot_attribute().as_ref()) {
                Ok(None) => true,
                Ok(Some(note)) => {
                    let note = String::from_utf8_lossy(&note).into_owned();
                    boot_id().is_ok_and(|boot| note.split(' ').next() == Some(boot.as_str()))
                }
                Err(_) => false,
            }
        })
    }

    /// An empty directory to stand for no layer at all.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn empty(&self) -> Result<PathBuf> {
        let path = self.dir.join(".empty");
        match fs::create_dir(&path) {
            Err(err) if err.kind() != ErrorKind::AlreadyExists => Err(err).context("make an empty layer"),
            _ => Ok(path),
        }
    }

    /// The lock that guards which layers are in use.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn lock(&self) -> Result<Lock> {
        Lock::exclusive(&self.dir.join("lock"))
    }

    /// Makes sure that all `layers` (lowest first) are extracted; some at the same time. Returns their directories,
    /// lowest first. `most` bounds the content of each in bytes; `None` bounds it by its compressed size.
    ///
    /// # Errors
    /// A blob is missing or damaged, an archive is hostile, the disk is full.
    pub fn ensure(
        &self,
        store: &Store,
        layers: &[(Descriptor, Digest)],
        most: Option<u64>,
    ) -> Result<Vec<PathBuf>> {
        if layers.len() > MOST_LAYERS {
            fault!(Unsupported, "{} layers; more than {MOST_LAYERS} cannot be mounted", layers.len());
        }
        let mut missing: Vec<&(Descriptor, Digest)> = Vec::new();
        for layer in layers {
            if !self.is_whole(&layer.1)? && !missing.iter().any(|other| other.1 == layer.1) {
                missing.push(layer);
            }
        }
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some((blob, diff_id)) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.extract(store, blob, diff_id, most)
                    .with_context(|| format!("layer {}", diff_id.short()))?;
            }
            Ok(())
        };
        // Two: each already has threads that unpack and hash ahead of it.
        std::thread::scope(|scope| {
            let workers: Vec<_> = missing.iter().take(2).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| {
                worker.join().map_err(|_| anyhow::anyhow!("an extracting thread ended badly"))?
            })
        })?;
        Ok(layers.iter().map(|(_, diff_id)| self.path(diff_id)).collect())
    }

    /// Takes a directory that is already in overlayfs' form as the layer `diff_id`.
    ///
    /// # Errors
    /// It is on another file system.
    pub fn adopt(&self, directory: &Path, diff_id: &Digest) -> Result<()> {
        note_boot(&File::open(directory)?)?;
        self.publish(directory, diff_id)
    }

    /// Where a layer is extracted until it is whole.
    pub(super) fn partial(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join(format!(".{}.partial", diff_id.hex()))
    }

    fn extract(&self, store: &Store, blob: &Descriptor, diff_id: &Digest, most: Option<u64>) -> Result<()> {
        if diff_id.algorithm() != Algorithm::Sha256 {
            fault!(Unsupported, "diff id {diff_id}: only sha256 is supported");
        }
        let partial = self.partial(diff_id);
        let held = claim(&partial, true)?.context("nothing to wait for")?;
        // Whoever held it before has finished the layer.
        if self.own(diff_id).exists() {
            let _ = fs::remove_dir(&partial);
            return Ok(());
        }
        clear(&partial)?;
        let limits = Limits::for_blob(blob.size);
        let limits = Limits { bytes: most.unwrap_or(limits.bytes), ..limits };
        let source = store.open_blob(&blob.digest)?;
        let extracted = extract_into(source, &held, apply::Options::new(Deletions::Kept, limits), diff_id)
            .and_then(|bytes| note_boot(&held).map(|()| bytes));
        match extracted {
            Ok(bytes) => store.note_unpacked(&blob.digest, bytes),
            Err(err) => {
                let _ = fs::remove_dir_all(&partial);
                return Err(err);
            }
        }
        self.publish(&partial, diff_id)
    }

    pub(super) fn publish(&self, directory: &Path, diff_id: &Digest) -> Result<()> {
        let path = self.own(diff_id);
        match fs::rename(directory, &path) {
            // Somebody else was faster; theirs is the same.
            Err(err) if matches!(err.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))
            }
            other => other.with_context(|| format!("publish {}", path.display())),
        }
    }

    /// Whether the layer stands under its name and no crash can have eaten its content.
    pub(super) fn is_whole(&self, diff_id: &Digest) -> Result<bool> {
        let path = self.own(diff_id);
        let Ok(dir) = File::open(&path) else { return Ok(self.elsewhere(diff_id).is_some()) };
        let Some(note) = sys::xattr::get(&dir, boot_attribute().as_ref())? else { return Ok(true) };
        let note = String::from_utf8_lossy(&note).into_owned();
        let (boot, time) = note.split_once(' ').unwrap_or((&note, "0"));
        if boot != boot_id()? {
            let trash = self.dir.join(format!(".trash-{}", diff_id.hex()));
            let _lock = self.lock()?;
            fs::rename(&path, &trash).with_context(|| format!("put aside {}", path.display()))?;
            let _ = fs::remove_dir_all(trash);
            return Ok(false);
        }
        if seconds_now() > time.parse().unwrap_or(0) + WRITTEN_BACK {
            nix::unistd::syncfs(&dir).context("sync the layers")?;
            sys::xattr::remove(&dir, boot_attribute().as_ref())?;
        }
        Ok(true)
    }
}

/// Extracts the packed layer `source` and verifies what it is. On a thread of its own, as [`apply::apply`] says.
pub(super) fn extract_into(
    source: impl Read + Send + 'static,
    dir: &File,
    options: apply::Options,
    diff_id: &Digest,
) -> Result<u64> {
    let mut stream = Stream::start(source)?;
    let bytes = apply::apply(&mut stream, dir.as_fd().try_clone_to_owned()?, options)?;
    let hex: String = stream.finish()?.iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(hex == diff_id.hex(), "wrong content: its diff id is sha256:{hex}, the image says {diff_id}");
    Ok(bytes)
}

/// Makes and locks a directory. The lock goes with its holder, so a left-over of a killed extractor is free. `None` where
/// somebody holds it and `wait` is not wished.
pub(super) fn claim(path: &Path, wait: bool) -> Result<Option<File>> {
    for _ in 0..100 {
        if let Err(err) = fs::create_dir(path)
            && err.kind() != ErrorKind::AlreadyExists
        {
            return Err(err).with_context(|| format!("make {}", path.display()));
        }
        let Ok(dir) = File::open(path) else { continue };
        match dir.try_lock() {
            Err(TryLockError::WouldBlock) if !wait => return Ok(None),
            Err(TryLockError::WouldBlock) => dir.lock(),
            Err(TryLockError::Error(err)) => Err(err),
            Ok(()) => Ok(()),
        }
        .with_context(|| format!("lock {}", path.display()))?;
        // While we waited its holder may have renamed it to its final name; then the lock is on that layer.
        let (held, named) = (dir.metadata()?, fs::metadata(path));
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
            return Ok(Some(dir));
        }
    }
    bail!("{} keeps changing", path.display())
}

/// Removes what a killed extractor left in its directory.
pub(super) fn clear(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        removed.with_context(|| format!("remove {}", entry.path().display()))?;
    }
    Ok(())
}

pub(super) fn note_boot(dir: &File) -> Result<()> {
    let note = format!("{} {}", boot_id()?, seconds_now());
    sys::xattr::set(dir, boot_attribute().as_ref(), note.as_bytes()).context("note the boot on a layer")
}

fn boot_attribute() -> &'static str {
    if crate::rootless::is_real_root() { "trusted.bulkhead.boot" } else { "user.bulkhead.boot" }
}

fn boot_id() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("read the boot id")?;
    Ok(text.trim().to_owned())
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
