//! Advisory locks on files that hold no data (`flock(2)`), freed by the kernel when the holder dies.
//!
//! Order where a process takes several: network, then image, then container.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Waits for the lock and holds it alone. Makes the lock file where it is missing (its directory must exist).
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn exclusive(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock().with_context(|| format!("lock {}", path.display()))?;
        Ok(Self { file })
    }

    /// Waits for the lock and shares it with other readers.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn shared(path: &Path) -> Result<Self> {
        let file = open(path)?;
        file.lock_shared().with_context(|| format!("lock {}", path.display()))?;
        Ok(Self { file })
    }

    /// Takes the lock alone if it is free; `None` where somebody holds it.
    ///
    /// # Errors
    /// The lock file cannot be opened.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        let file = open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(err)) => Err(err).with_context(|| format!("lock {}", path.display())),
        }
    }

    /// Frees a lock that is held alone, does `work`, and waits for the lock again: for what waits for others.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn without<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        self.file.unlock().context("free a lock")?;
        let done = work();
        self.file.lock().context("take a lock again")?;
        Ok(done)
    }
}

/// For a process to which the lock is handed on: it is free once the last descriptor of it is closed.
impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("open lock {}", path.display()))
}
