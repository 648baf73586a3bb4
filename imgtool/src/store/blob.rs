//! Blobs: written to the side, verified, then moved into place in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::fault::Fault;

use super::Store;
use super::digest::{Algorithm, Digest, Hasher};
use super::follow::{Follower, Received};
use super::lease::{Lease, create_locked};

impl Store {
    /// Where a blob of our own is, or would be.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        path_in(&self.root, digest)
    }

    /// Whether the blob is there. It may go at any time unless a name or a lease holds it.
    #[must_use]
    pub fn has(&self, digest: &Digest) -> bool {
        self.locate(digest).exists()
    }

    /// The size of a blob in bytes, if it is there.
    #[must_use]
    pub fn size_of(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.locate(digest)).ok().map(|meta| meta.len())
    }

    /// Opens a blob for reading. Its content was verified when it came in.
    ///
    /// # Errors
    /// `NotFound` where it is missing.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        match File::open(self.locate(digest)) {
            Ok(file) => Ok(file),
            Err(err) if err.kind() == ErrorKind::NotFound => {
                fault!(NotFound, "blob {digest} is missing from the image store {}", self.root.display())
            }
            Err(err) => Err(err).with_context(|| format!("open blob {digest}")),
        }
    }

    /// Reads a small blob (a manifest, a config) whole and verifies it again, since a disk may rot.
    ///
    /// # Errors
    /// Missing, longer than `limit` bytes, or no longer what its digest says.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut file = self.open_blob(digest)?;
        let length = file.metadata().with_context(|| format!("look at blob {digest}"))?.len();
        if length > limit {
            fault!(Unsupported, "blob {digest} has {length} bytes, more than {limit}");
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.read_to_end(&mut bytes).with_context(|| format!("read blob {digest}"))?;
        if !digest.matches(&bytes) {
            anyhow::bail!(
                "blob {digest} in {} is damaged: pull or load the image again",
                self.locate(digest).ancestors().nth(3).unwrap_or(&self.root).display()
            );
        }
        Ok(bytes)
    }

    /// Stores bytes under their SHA-256 digest, held by `lease`.
    ///
    /// # Errors
    /// No space, no permission.
    pub fn put_bytes(&self, lease: &Lease, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        lease.hold([&digest])?;
        if !self.has(&digest) {
            let mut writer = self.writer()?;
            writer.write_all(bytes).with_context(|| format!("write blob {digest}"))?;
            writer.commit(lease)?;
        }
        Ok(digest)
    }

    /// Starts a blob whose digest is not known yet.
    ///
    /// # Errors
    /// The temporary file cannot be made.
    pub fn writer(&self) -> Result<BlobWriter> {
        let (path, file) = create_locked(&self.root.join("partial"), "new")?;
        Ok(BlobWriter {
            store: self.clone(),
            path: Some(path),
            file,
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        })
    }

    /// A file without a name, gone when it is closed: for what only passes through.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn nameless(&self) -> Result<File> {
        // Not O_TMPFILE, which not every file system has. What a killed command leaves between the two is swept with
        // the other half-made blobs.
        let (path, file) = create_locked(&self.root.join("partial"), "new")?;
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        Ok(file)
    }

    /// Stores everything `reader` gives, verified against `digest` and, where told, `size`.
    ///
    /// # Errors
    /// The content is not what the digest or the size says (nothing is kept), or reading or writing fails.
    pub fn put(
        &self,
        lease: &Lease,
        digest: &Digest,
        size: Option<u64>,
        reader: &mut dyn Read,
    ) -> Result<()> {
        lease.hold([digest])?;
        if self.has(digest) {
            return Ok(());
        }
        let mut writer = self.writer()?;
        writer.hasher = Hasher::new(digest.algorithm());
        // One byte more than promised is enough to know that the promise was wrong.
        let mut limited = reader.take(size.map_or(u64::MAX, |size| size.saturating_add(1)));
        copy(&mut limited, &mut writer).with_context(|| format!("store blob {digest}"))?;
        if let Some(size) = size
            && writer.size != size
        {
            let shown = if writer.size > size { "more" } else { "only" };
            anyhow::bail!("blob {digest} should have {size} bytes but has {shown} {}", writer.size.min(size));
        }
        let found = writer.hasher.clone().finish();
        if found != *digest {
            anyhow::bail!("blob {digest} has the wrong content: its digest is {found}");
        }
        writer.publish(digest)
    }

    /// Opens the half-received form of a blob, for going on where an earlier command stopped. Waits while another
    /// command receives the same blob.
    ///
    /// # Errors
    /// The file cannot be made or locked.
    pub fn partial(&self, digest: &Digest) -> Result<Partial> {
        let path = self.root.join("partial").join(format!("{}-{}", digest.algorithm().name(), digest.hex()));
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .with_context(|| format!("make {}", path.display()))?;
            file.lock().with_context(|| format!("lock {}", path.display()))?;
            // The one who held the lock may have finished (renamed) or dropped (removed) the file meanwhile.
            let same = fs::metadata(&path).is_ok_and(|meta| {
                file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()))
            });
            if same {
                return Ok(Partial {
                    store: self.clone(),
                    path,
                    file,
                    digest: digest.clone(),
                    hasher: Hasher::new(digest.algorithm()),
                    size: 0,
                    received: Received::default(),
                });
            }
        }
    }
}

/// Where a layout at `root` keeps a blob.
pub(super) fn path_in(root: &Path, digest: &Digest) -> PathBuf {
    root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// Copies with a buffer that suits files and sockets alike; returns the number of bytes.
///
/// # Errors
/// Whatever reading or writing says.
pub fn copy(reader: &mut dyn Read, writer: &mut dyn Write) -> io::Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    let mut total = 0;
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(err) if err.kind() == ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        writer.write_all(&buffer[..count])?;
        total += count as u64;
    }
}

/// The error of a [`copy`]; one that the reader's own place has made is told as that place tells it, so that a
/// registry that breaks off is not taken for a disk that fails.
pub fn untangled(err: io::Error) -> anyhow::Error {
    match err.downcast::<Fault>() {
        Ok(fault) => fault.into(),
        Err(err) => err.into(),
    }
}

/// A blob being written whose digest will be known at its end. Dropped without [`BlobWriter::commit`], it vanishes.
pub struct BlobWriter {
    store: Store,
    path: Option<PathBuf>,
    file: File,
    hasher: Hasher,
    size: u64,
}

impl BlobWriter {
    /// Makes the blob visible under its digest, held by `lease`. Returns the digest and the size in bytes.
    ///
    /// # Errors
    /// No space, no permission.
    pub fn commit(self, lease: &Lease) -> Result<(Digest, u64)> {
        let (digest, size) = (self.hasher.clone().finish(), self.size);
        lease.hold([&digest])?;
        self.publish(&digest)?;
        Ok((digest, size))
    }

    fn publish(mut self, digest: &Digest) -> Result<()> {
        if self.store.has(digest) {
            return Ok(());
        }
        let Some(path) = &self.path else { return Ok(()) };
        publish(&self.store, path, &self.file, digest)?;
        self.path = None;
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

/// A blob of a known digest being received. It stays when dropped, so that the next command can go on.
pub struct Partial {
    store: Store,
    path: PathBuf,
    file: File,
    digest: Digest,
    hasher: Hasher,
    size: u64,
    received: Received,
}

impl Partial {
    /// A reader of what is there and of what comes, for another thread. It ends when this is committed or dropped, and
    /// is of no use after a [`Partial::restart`].
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn follow(&self) -> Result<Follower> {
        let file = self.file.try_clone().with_context(|| format!("follow {}", self.path.display()))?;
        Ok(Follower::new(file, self.received.clone()))
    }

    /// Reads what is already there into the hash and returns its length; more than `limit` bytes are not believed and
    /// thrown away.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn resume(&mut self, limit: u64) -> Result<u64> {
        let length = self.file.metadata().with_context(|| format!("look at {}", self.path.display()))?.len();
        if length > limit {
            self.restart()?;
            return Ok(0);
        }
        self.file.seek(SeekFrom::Start(0)).context("rewind")?;
        self.hasher = Hasher::new(self.digest.algorithm());
        let mut file = &self.file;
        self.size = copy(&mut file, &mut HashOnly(&mut self.hasher))
            .with_context(|| format!("read {}", self.path.display()))?;
        self.received.reached(self.size);
        Ok(self.size)
    }

    /// Throws away what is there.
    ///
    /// # Errors
    /// The file cannot be cut.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).with_context(|| format!("empty {}", self.path.display()))?;
        self.file.seek(SeekFrom::Start(0)).context("rewind")?;
        self.hasher = Hasher::new(self.digest.algorithm());
        self.size = 0;
        Ok(())
    }

    /// How many bytes are there.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Verifies the whole and makes it visible.
    ///
    /// # Errors
    /// The content is not what the digest says; then nothing is kept.
    pub fn commit(self) -> Result<()> {
        // Before the sync, which takes its time.
        self.received.ended();
        let found = self.hasher.clone().finish();
        if found != self.digest {
            let _ = fs::remove_file(&self.path);
            fault!(Remote, "blob {} has the wrong content: its digest is {found}", self.digest);
        }
        publish(&self.store, &self.path, &self.file, &self.digest)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.received.ended();
    }
}

impl Write for Partial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.size += count as u64;
        // Whoever follows reads while this hashes.
        self.received.reached(self.size);
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct HashOnly<'a>(&'a mut Hasher);

impl Write for HashOnly<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn publish(store: &Store, path: &std::path::Path, file: &File, digest: &Digest) -> Result<()> {
    // Before the rename, or a power cut could leave an empty blob under a name that promises its content.
    file.sync_data().with_context(|| format!("sync blob {digest}"))?;
    fs::rename(path, store.blob_path(digest)).with_context(|| format!("store blob {digest}"))
}
