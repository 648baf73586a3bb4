//! The directories of containers: reserving an id, finding, locking and removing.

use std::cell::Cell;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::{atomic, fault, name};
use serde::Serialize;

use super::state::State;

const STATE: &str = "state.json";
/// The state until the container is ready: then only its name changes.
const CREATING: &str = "creating.json";

/// Holds the socket by which the program says that it is ready.
pub const NOTIFY: &str = "notify";

/// The directory of one container.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    id: String,
    file: File,
    locked: Cell<bool>,
}

impl Directory {
    /// Makes the directory of a new container and holds its lock until dropped.
    ///
    /// What a killed `create` left under this id is removed first.
    ///
    /// # Errors
    /// A fault of kind `Exists` where the id is taken.
    pub fn reserve(root: &Path, id: &str) -> Result<Self> {
        name::check("container ID", id)?;
        let path = root.join(id);
        loop {
            let mut builder = DirBuilder::new();
            builder.mode(0o711);
            match builder.create(&path) {
                Ok(()) => {}
                Err(err) if err.kind() == ErrorKind::NotFound => {
                    builder.recursive(true);
                    builder.mode(0o700).create(root).with_context(|| format!("make {}", root.display()))?;
                    continue;
                }
                Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
                Err(err) => return Err(err).with_context(|| format!("make {}", path.display())),
            }
            let Some(directory) = Self::open_if_exists(root, id)? else { continue };
            if !directory.try_lock()? {
                fault!(Exists, "container with given ID already exists: {id}");
            }
            // Another process may have removed the directory between the two calls: then ours has no name.
            if !directory.is_there()? {
                continue;
            }
            if directory.load()?.is_some() {
                fault!(Exists, "container with given ID already exists: {id}");
            }
            return Ok(directory);
        }
    }

    /// Whether it has a name still: this very directory, not another container's of the same id.
    ///
    /// # Errors
    /// None in practice.
    pub fn is_there(&self) -> Result<bool> {
        let meta = self.file.metadata().with_context(|| format!("look at {}", self.path.display()))?;
        Ok(meta.nlink() > 0)
    }

    /// Opens an existing container's directory.
    ///
    /// # Errors
    /// A fault of kind `NotFound`, also for an id that can be none.
    pub fn open(root: &Path, id: &str) -> Result<Self> {
        if let Err(err) = name::check("container ID", id) {
            fault!(NotFound, "container does not exist: {err}");
        }
        match Self::open_if_exists(root, id)? {
            Some(directory) => Ok(directory),
            None => fault!(NotFound, "container {id} does not exist"),
        }
    }

    fn open_if_exists(root: &Path, id: &str) -> Result<Option<Self>> {
        let path = root.join(id);
        match File::open(&path) {
            Ok(file) => Ok(Some(Self { path, id: id.to_owned(), file, locked: Cell::new(false) })),
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err).with_context(|| format!("open {}", path.display())),
        }
    }

    /// The ids below `root`, sorted.
    ///
    /// # Errors
    /// `root` exists but cannot be read.
    pub fn ids(root: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(root) {
            Ok(entries) => entries,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(err).with_context(|| format!("read {}", root.display())),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| format!("read {}", root.display()))?;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Some(id) = entry.file_name().to_str().filter(|id| name::check("id", id).is_ok())
                && is_directory
            {
                ids.push(id.to_owned());
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Takes the lock, waiting for its holder.
    ///
    /// # Errors
    /// None in practice.
    pub fn lock(&self) -> Result<()> {
        self.file.lock().with_context(|| format!("lock {}", self.path.display()))?;
        self.locked.set(true);
        Ok(())
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// None in practice.
    pub fn try_lock(&self) -> Result<bool> {
        match self.file.try_lock() {
            Ok(()) => {
                self.locked.set(true);
                Ok(true)
            }
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(err)) => {
                Err(err).with_context(|| format!("lock {}", self.path.display()))
            }
        }
    }

    /// Lets go of the lock.
    ///
    /// # Errors
    /// None in practice.
    pub fn unlock(&self) -> Result<()> {
        self.locked.set(false);
        self.file.unlock().with_context(|| format!("unlock {}", self.path.display()))
    }

    /// Whether another process has the lock now.
    ///
    /// # Errors
    /// None in practice.
    pub fn is_locked_elsewhere(&self) -> Result<bool> {
        if self.locked.get() {
            return Ok(false);
        }
        let free = self.try_lock()?;
        if free {
            self.unlock()?;
        }
        Ok(!free)
    }

    /// Closes the lock, which a copy of this process would otherwise hold as well. Only for such a copy.
    pub fn release(&self) {
        sys::clone::forget_fd(self.file.as_raw_fd());
    }

    /// The state, or `None` where none has been written yet.
    ///
    /// # Errors
    /// It cannot be read or parsed.
    pub fn load(&self) -> Result<Option<State>> {
        let read = |name| atomic::read_json::<State>(&self.file_path(name));
        if let Some(state) = read(STATE)? {
            return Ok(Some(state));
        }
        match read(CREATING)? {
            Some(state) => Ok(Some(State { creating: true, ..state })),
            // It may have got its name between the two looks.
            None => read(STATE),
        }
    }

    /// The state of a container that exists for its users.
    ///
    /// # Errors
    /// A fault of kind `NotFound` where a killed or running `create` has not written one.
    pub fn state(&self) -> Result<State> {
        match self.load()? {
            Some(state) => Ok(state),
            None => fault!(NotFound, "container {} does not exist", self.id),
        }
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// A full disk and the like; the old state stands.
    pub fn save(&self, state: &State) -> Result<()> {
        self.write(if state.creating { CREATING } else { STATE }, state)
    }

    /// Lets the state that was saved last stand as that of a container which is ready.
    ///
    /// # Errors
    /// None in practice.
    pub fn publish(&self, state: &mut State) -> Result<()> {
        state.creating = false;
        let (from, to) = (self.file_path(CREATING), self.file_path(STATE));
        fs::rename(from, &to).with_context(|| format!("write {}", to.display()))
    }

    /// Replaces a JSON file in one step. Not synced to a disk: it describes processes, which do not outlive the
    /// kernel, and belongs on a tmpfs.
    ///
    /// # Errors
    /// A full disk and the like; the old file stands.
    pub fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        self.write_bytes(name, &encode(name, value)?)
    }

    /// Replaces a file in one step, as [`Self::write`].
    ///
    /// # Errors
    /// A full disk and the like; the old file stands.
    pub fn write_bytes(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (temporary, path) = (self.file_path(&format!(".{name}")), self.file_path(name));
        let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, &path));
        written
            .inspect_err(|_| drop(fs::remove_file(&temporary)))
            .with_context(|| format!("write {}", path.display()))
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes the directory with all in it. The state goes last, so that a removal that was interrupted can be done
    /// again.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(&self) -> Result<()> {
        let context = || format!("remove {}", self.path.display());
        for name in sys::directory::names(self.file.as_fd()).with_context(context)? {
            if name != STATE && name != CREATING {
                remove_any(&self.path.join(name))?;
            }
        }
        if !remove_file(&self.file_path(STATE))? {
            remove_file(&self.file_path(CREATING))?;
        }
        match fs::remove_dir(&self.path) {
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
            other => other.with_context(context),
        }
    }
}

fn encode(name: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).with_context(|| format!("encode {name}"))
}

fn remove_any(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() == ErrorKind::IsADirectory => {
            fs::remove_dir_all(path).with_context(|| format!("remove {}", path.display()))
        }
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether it was there.
fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
        Err(err) => Err(err).with_context(|| format!("remove {}", path.display())),
    }
}
