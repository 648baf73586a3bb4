//! Named volumes: `STORE/volumes/<name>/_data`, and beside it `volume.json`. One that is being made or removed is in
//! `STORE/volumes/.unfinished/`.

pub mod attach;
pub mod options;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::now;
use contracts::fault;
use contracts::lock::Lock;
use serde::{Deserialize, Serialize};

use crate::container::{Store, make_dir};
use crate::copy::archive::Place;
use crate::events;

/// `volume.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Format: 1.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// What to mount over `_data` (`type`, `device`, `o`).
    pub options: BTreeMap<String, String>,
    /// Made up because a mount had no name: pruned without `--all`.
    pub anonymous: bool,
}

/// Where a volume's files are.
pub fn data(store: &Store, name: &str) -> PathBuf {
    store.paths.volumes().join(name).join("_data")
}

fn lock(store: &Store) -> Result<Lock> {
    make_dir(&store.paths.volumes())?;
    // No volume can have this name.
    Lock::exclusive(&store.paths.volumes().join(".lock"))
}

fn unfinished(store: &Store) -> PathBuf {
    // Nor this one.
    store.paths.volumes().join(".unfinished")
}

/// Removes what was being made or removed by a command that was killed: who has the lock is alone at it.
fn sweep(store: &Store, _held: &Lock) {
    let Ok(entries) = fs::read_dir(unfinished(store)) else { return };
    for entry in entries.flatten() {
        // What cannot be removed is no reason to refuse another volume.
        let _ = fs::remove_dir_all(entry.path());
    }
    let _ = fs::remove_dir(unfinished(store));
}

/// [`sweep`] where perhaps no volume is made or removed.
pub fn prune(store: &Store) -> Result<()> {
    sweep(store, &lock(store)?);
    Ok(())
}

/// The volume, if it exists.
pub fn load(store: &Store, name: &str) -> Result<Option<Volume>> {
    if contracts::name::check("volume name", name).is_err() {
        return Ok(None);
    }
    atomic::read_json(&store.paths.volumes().join(name).join("volume.json"))
}

/// Makes the volume unless it exists; whether it is new.
pub fn ensure(store: &Store, wish: &Volume) -> Result<bool> {
    let lock = lock(store)?;
    sweep(store, &lock);
    if let Some(known) = load(store, &wish.name)? {
        if !wish.options.is_empty() && known.options != wish.options {
            fault!(Exists, "volume {} exists with other options", wish.name);
        }
        return Ok(false);
    }
    let volumes = store.paths.volumes();
    let place = volumes.join(&wish.name);
    // A directory without a record is not of our making: it becomes the volume with all that it holds.
    let adopted = place.exists();
    let dir = if adopted { place.clone() } else { unfinished(store).join(&wish.name) };
    make_dir(&dir.join("_data"))?;
    set_mode(&dir.join("_data"), 0o755)?;
    let volume = Volume { version: 1, created: now(), ..wish.clone() };
    atomic::write_json(&dir.join("volume.json"), &volume, 0o600)?;
    if !adopted {
        // Synced, or a power cut could put a volume that is in use back among the unfinished.
        fs::rename(&dir, &place)
            .and_then(|()| File::open(&volumes)?.sync_all())
            .with_context(|| format!("make {}", place.display()))?;
        let _ = fs::remove_dir(unfinished(store));
    }
    drop(lock);
    events::volume(store, &wish.name, "create");
    Ok(true)
}

fn set_mode(path: &std::path::Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod {}", path.display()))
}

/// All volumes by name.
pub fn list(store: &Store) -> Result<Vec<Volume>> {
    let path = store.paths.volumes();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err).with_context(|| format!("list {}", path.display())),
    };
    let mut volumes = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        if let Some(name) = entry.file_name().to_str() {
            volumes.extend(load(store, name)?);
        }
    }
    volumes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(volumes)
}

/// The containers that mount a volume.
pub fn users(store: &Store, name: &str) -> Result<Vec<String>> {
    let mut users = Vec::new();
    for id in store.ids()? {
        if let Ok(record) = store.load(&id)
            && record.mounts.iter().any(|point| point.kind == "volume" && point.name == name)
        {
            users.push(id);
        }
    }
    Ok(users)
}

/// Removes a volume that nobody but `except` uses; the bytes it held.
pub fn remove(store: &Store, name: &str, except: Option<&str>) -> Result<u64> {
    let lock = lock(store)?;
    sweep(store, &lock);
    if load(store, name)?.is_none() {
        fault!(NotFound, "get {name}: no such volume");
    }
    let users: Vec<String> =
        users(store, name)?.into_iter().filter(|id| Some(id.as_str()) != except).collect();
    if !users.is_empty() {
        fault!(Busy, "remove {name}: volume is in use - [{}]", users.join(", "));
    }
    let dir = store.paths.volumes().join(name);
    options::unmount(store, name)?;
    let size = size(&dir.join("_data"));
    make_dir(&unfinished(store))?;
    let gone = unfinished(store).join(name);
    // All of it in one step: what a killed removal leaves is no volume, and `sweep` finds it.
    fs::rename(&dir, &gone)
        .and_then(|()| fs::remove_dir_all(&gone))
        .with_context(|| format!("remove {}", dir.display()))?;
    let _ = fs::remove_dir(unfinished(store));
    drop(lock);
    events::volume(store, name, "destroy");
    Ok(size)
}

/// Does something with a volume's files; what its options name is mounted meanwhile.
pub fn with_files(store: &Store, name: &str, work: impl FnOnce(&Place) -> Result<()>) -> Result<()> {
    let held = lock(store)?;
    let Some(volume) = load(store, name)? else { fault!(NotFound, "get {name}: no such volume") };
    options::mount_one(store, &volume)?;
    // From here on the files are those, even if somebody unmounts the volume.
    let files = Place::root(&data(store, name), name)?;
    drop(held);
    let done = work(&files);
    drop(files);
    let _held = lock(store)?;
    let used = |id: &String| store.live(id).exists();
    if !volume.options.is_empty() && !users(store, name)?.iter().any(used) {
        options::unmount(store, name)?;
    }
    done
}

/// Bytes of the regular files below `path`.
pub fn size(path: &std::path::Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) if meta.is_file() => meta.len(),
        _ => 0,
    };
    entries.flatten().map(one).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_command_left_goes_with_the_next_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path(), dir.path());
        let left = |name: &str| make_dir(&unfinished(&store).join(name).join("_data/deeper")).unwrap();
        let wish = |name: &str| Volume { name: name.into(), ..Volume::default() };
        left("a");
        left("b");
        assert!(ensure(&store, &wish("a")).unwrap());
        assert!(!data(&store, "a").join("deeper").exists() && !unfinished(&store).exists());
        assert!(!ensure(&store, &wish("a")).unwrap(), "it is there");
        left("a");
        // Somebody's own directory.
        fs::create_dir_all(data(&store, "c").join("kept")).unwrap();
        remove(&store, "a", None).unwrap();
        assert!(ensure(&store, &wish("c")).unwrap());
        assert!(data(&store, "c").join("kept").exists());
        let mut names: Vec<_> =
            fs::read_dir(store.paths.volumes()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        assert_eq!(names, [".lock", "c"]);
    }
}
