//! `STATE/net`: everything that lives as long as containers do. Whoever holds a [`State`] holds its lock.
//!
//! | file | what |
//! |---|---|
//! | `lock` | held by every command that reads or changes anything here |
//! | `pending` | the id that is being attached or detached now: what a killed command left half-done |
//! | `attachments/<id>.json` | [`crate::attach::record::Record`] |
//! | `ns/<id>` | its network namespace, mounted |
//! | `files/<id>/` | hosts, resolv.conf, hostname |
//! | `leases/<network>/<address>` | holds the id that has the address |
//! | `ports/<protocol>-<port>/<address or any>` | holds the id that published the port |
//! | `firewall` | where the rules of attached containers are ([`crate::firewall::choice`]) |
//! | `host`, `uplink.*` | the network namespace of an ordinary user's networks ([`crate::rootless`]) |
//! | `guests/<zone>/<id>/<network>,<interface>.json` | [`crate::guest::Guest`] |
//! | `members/<network>/<id>` | names and addresses for the DNS server; the network is up while there are any |

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::lock::Lock;

/// The state directory, locked.
#[derive(Debug)]
pub struct State {
    /// `STATE/net`.
    pub dir: PathBuf,
    /// `STORE/networks`.
    pub networks: PathBuf,
    /// The name of its nftables tables.
    pub table: &'static str,
    pub(crate) held: Lock,
}

impl State {
    /// Waits for the lock. Commands call [`State::open`] instead, which knows what a killed command left.
    ///
    /// # Errors
    /// The directories cannot be made.
    pub fn lock(dir: PathBuf, networks: PathBuf, table: &'static str) -> Result<Self> {
        make_dir(&dir)?;
        Ok(Self { networks, table, held: Lock::exclusive(&dir.join("lock"))?, dir })
    }

    /// A path below `STATE/net`.
    pub fn path(&self, parts: &[&str]) -> PathBuf {
        let mut path = self.dir.clone();
        path.extend(parts);
        path
    }

    /// Removes temporary files of killed writers. Whoever holds the lock is the only writer here, but for the name
    /// servers' pid files.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn sweep_temporary(&self) -> Result<()> {
        for kind in ["attachments", "dns"] {
            for name in list(&self.path(&[kind]))? {
                if name.ends_with(".tmp") && !name.contains(".pid.") {
                    remove(&self.path(&[kind, &name]))?;
                }
            }
        }
        Ok(())
    }

    /// Notes that `id` is being changed: from here to [`Self::settled`], a crash leads to its removal.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn pending(&self, id: &str) -> Result<()> {
        let path = self.dir.join("pending");
        fs::write(&path, id).with_context(|| format!("write {}", path.display()))
    }

    /// The change is complete.
    ///
    /// # Errors
    /// The note cannot be removed.
    pub fn settled(&self) -> Result<()> {
        remove(&self.dir.join("pending"))
    }

    /// All ids with a record.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn attached(&self) -> Result<Vec<String>> {
        let names = list(&self.path(&["attachments"]))?;
        Ok(names.into_iter().filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect())
    }

    /// The ids on a network.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn members(&self, network: &str) -> Result<Vec<String>> {
        let names = list(&self.path(&["members", network]))?;
        Ok(names.into_iter().filter(|name| !name.starts_with('.') && !name.ends_with(".tmp")).collect())
    }

    /// Whether anybody is on a network: without reading the whole directory.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn has_members(&self, network: &str) -> Result<bool> {
        let dir = self.path(&["members", network]);
        let is_one = |name: &str| !name.starts_with('.') && !name.ends_with(".tmp");
        let shown = || format!("read directory {}", dir.display());
        match fs::read_dir(&dir) {
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(false),
            Err(err) => Err(err).with_context(shown),
            Ok(entries) => {
                for entry in entries {
                    if entry.with_context(shown)?.file_name().to_str().is_some_and(is_one) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// The networks that have members, in order of name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn live(&self) -> Result<Vec<String>> {
        let mut names = list(&self.path(&["members"]))?;
        names.sort();
        Ok(names)
    }
}

/// Makes a directory and its parents, `0711`: containers' users traverse it to their own files.
///
/// # Errors
/// The file system's.
pub fn make_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .with_context(|| format!("make directory {}", path.display()))
}

/// Claims a file for `id`: `Ok(None)` where it is ours now, else who has it.
///
/// # Errors
/// The file system's.
pub fn claim(path: &Path, id: &str) -> Result<Option<String>> {
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => {
            file.write_all(id.as_bytes()).with_context(|| format!("write {}", path.display()))?;
            Ok(None)
        }
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {
            Ok(Some(read(path)?.unwrap_or_default()).filter(|owner| owner != id))
        }
        Err(err) => Err(err).with_context(|| format!("make {}", path.display())),
    }
}

/// Gives a claim back, if it is `id`'s.
///
/// # Errors
/// The file system's.
pub fn release(path: &Path, id: &str) -> Result<()> {
    // An empty one is that of a writer killed between making and filling it.
    if read(path)?.is_some_and(|owner| owner == id || owner.is_empty()) {
        remove(path)?;
    }
    if let Some(parent) = path.parent() {
        // Only where it is empty now.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// A small text file; `None` where it does not exist.
///
/// # Errors
/// The file system's.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("read {}", path.display())),
    }
}

/// Removes a file; one that has gone is no error.
///
/// # Errors
/// The file system's.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The names in a directory; none where it does not exist.
///
/// # Errors
/// The file system's.
pub fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err).with_context(|| format!("read directory {}", path.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("read directory {}", path.display()))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}
