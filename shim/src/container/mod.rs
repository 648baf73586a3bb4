//! Containers on disk: their directories, names, records and true state.

pub mod again;
pub mod checkpoints;
pub mod claim;
pub mod clone;
pub mod create;
pub mod image_mounts;
pub mod names;
pub mod remove;
pub mod rootfs;
pub mod shared_memory;
pub mod start;
pub mod status;
pub mod subpaths;
pub mod unmount;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::{Container, Status};
use contracts::fault;
use contracts::lock::Lock;
use contracts::paths::Paths;

/// Where containers are kept.
#[derive(Debug, Clone)]
pub struct Store {
    /// The suite's roots.
    pub paths: Paths,
}

impl Store {
    /// The store of this process's environment.
    pub fn open() -> Self {
        Self { paths: Paths::from_env() }
    }

    /// A store elsewhere.
    #[cfg(test)]
    pub fn at(state: &Path, store: &Path) -> Self {
        Self { paths: Paths { state: state.into(), store: store.into(), config: store.into() } }
    }

    /// `STORE/containers/<id>`.
    pub fn dir(&self, id: &str) -> PathBuf {
        self.paths.containers().join(id)
    }

    /// The container's bundle.
    pub fn bundle(&self, id: &str) -> PathBuf {
        self.dir(id).join("bundle")
    }

    /// The container's log; rotated files have `.1`, `.2` behind it.
    pub fn log(&self, id: &str) -> PathBuf {
        self.dir(id).join("log.json")
    }

    /// `STATE/shim/<id>`: there while somebody owns the container.
    pub fn live(&self, id: &str) -> PathBuf {
        self.paths.shim(id)
    }

    fn live_status(&self, id: &str) -> PathBuf {
        self.live(id).join("status.json")
    }

    fn kept_status(&self, id: &str) -> PathBuf {
        self.dir(id).join("status.json")
    }

    /// Waits for the container's lock.
    pub fn lock(&self, id: &str) -> Result<Lock> {
        match Lock::exclusive(&self.dir(id).join("lock")) {
            Err(_) if !self.dir(id).exists() => fault!(NotFound, "No such container: {id}"),
            lock => lock,
        }
    }

    /// The container's record.
    pub fn load(&self, id: &str) -> Result<Container> {
        match atomic::read_json(&self.dir(id).join("container.json"))? {
            Some(record) => Ok(record),
            None => fault!(NotFound, "No such container: {id}"),
        }
    }

    /// Writes the record; the caller holds the lock.
    pub fn save(&self, record: &Container) -> Result<()> {
        let path = self.dir(&record.id).join("container.json");
        if record.host_config.auto_remove {
            // What ends with its run need not outlive a power cut.
            return atomic::write_json_volatile(&path, record, 0o600);
        }
        atomic::write_json(&path, record, 0o600)
    }

    /// Writes the status of an owned container.
    pub fn save_live(&self, id: &str, status: &Status) -> Result<()> {
        atomic::write_json_volatile(&self.live_status(id), status, 0o600)
    }

    /// Writes what must outlive a reboot.
    pub fn save_kept(&self, id: &str, status: &Status) -> Result<()> {
        atomic::write_json(&self.kept_status(id), status, 0o600)
    }

    /// All ids, in no order.
    pub fn ids(&self) -> Result<Vec<String>> {
        let path = self.paths.containers();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(err).with_context(|| format!("list {}", path.display())),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("list {}", path.display()))?.file_name();
            ids.extend(name.into_string().ok().filter(|name| is_id(name)));
        }
        Ok(ids)
    }

    /// The id behind an id, a name, or the beginning of an id.
    pub fn resolve(&self, text: &str) -> Result<String> {
        let name = text.strip_prefix('/').unwrap_or(text);
        if is_id(name) && self.dir(name).join("container.json").exists() {
            return Ok(name.to_owned());
        }
        if contracts::name::check("name", name).is_ok()
            && let Some(id) = names::owner(self, name)
        {
            return Ok(id);
        }
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let mut found: Vec<String> = self.ids()?.into_iter().filter(|id| id.starts_with(name)).collect();
            found.retain(|id| self.dir(id).join("container.json").exists());
            match found.len() {
                0 => {}
                1 => return Ok(found.remove(0)),
                _ => fault!(Usage, "multiple IDs found with provided prefix: {name}"),
            }
        }
        fault!(NotFound, "No such container: {text}")
    }
}

/// Whether `name` is an id in full.
pub fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The first twelve digits.
pub fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Makes a directory and its parents, private to this user.
pub fn make_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .with_context(|| format!("make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ids_and_prefixes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), dir.path());
        assert!(store.resolve("x").is_err() && store.resolve("../x").is_err() && store.resolve("").is_err());
        let ids = ["aa1", "aa2"].map(|start| format!("{start:0<64}"));
        for (id, name) in ids.iter().zip(["one", "two"]) {
            make_dir(&store.dir(id)).unwrap();
            claim::name(&store, name, id).unwrap();
            store.save(&Container { id: id.clone(), ..Container::default() }).unwrap();
        }
        assert_eq!(store.resolve("one").unwrap(), ids[0]);
        assert_eq!(store.resolve("/two").unwrap(), ids[1]);
        assert_eq!(store.resolve("aa2").unwrap(), ids[1]);
        assert!(store.resolve("aa").unwrap_err().to_string().contains("multiple"));
        assert!(claim::name(&store, "one", &ids[1]).is_err());
    }
}
