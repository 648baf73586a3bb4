//! Checkpoints of a container: `STORE/containers/<id>/checkpoints/<name>/`, or a directory of the user's. Each holds
//! CRIU's images and `checkpoint.json`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use contracts::{atomic, fault, network};
use serde::{Deserialize, Serialize};

use super::{Store, make_dir};

/// The name where none is given.
pub const DEFAULT: &str = "checkpoint";
/// The directory of `--pre-checkpoint`: memory alone, which a later checkpoint builds on.
pub const MEMORY: &str = "pre-checkpoint";
/// What is written first, before a directory has the checkpoint's name.
const PARTIAL: &str = ".partial";

/// `checkpoint.json`: what a restore needs to know beside the images.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Format of this document: 1.
    pub version: u32,
    /// RFC 3339.
    pub created: String,
    /// Flags of `runtime checkpoint` that `runtime restore` needs, too.
    pub flags: Vec<String>,
    /// By network: the addresses that open connections and programs know.
    pub addresses: BTreeMap<String, [Option<IpAddr>; 2]>,
}

impl Note {
    /// The note of a container with these addresses.
    pub fn new(flags: Vec<String>, network: Option<&network::Status>) -> Self {
        let ip = |text: &str| text.split('/').next().and_then(|text| text.parse().ok());
        let ends = network.into_iter().flat_map(|status| &status.networks);
        let addresses =
            ends.map(|(name, end)| (name.clone(), [ip(&end.address), end.address6.as_deref().and_then(ip)]));
        Self { version: 1, created: contracts::container::now(), flags, addresses: addresses.collect() }
    }
}

/// Where the container's checkpoints are: beside its record, or where the user wants them.
pub fn dir(store: &Store, id: &str, user: Option<&Path>) -> Result<PathBuf> {
    match user {
        Some(dir) => std::path::absolute(dir).with_context(|| format!("find {}", dir.display())),
        None => Ok(store.dir(id).join("checkpoints")),
    }
}

/// The checkpoint's directory, which must exist.
pub fn find(dir: &Path, name: &str, container: &str) -> Result<PathBuf> {
    check(name)?;
    let path = dir.join(name);
    if !path.join("checkpoint.json").exists() {
        fault!(NotFound, "checkpoint {name} does not exist for container {container}");
    }
    Ok(path)
}

/// Refuses what is no name.
pub fn check(name: &str) -> Result<()> {
    if contracts::name::check("checkpoint", name).is_err() {
        fault!(Usage, "Invalid checkpoint ID ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    }
    Ok(())
}

/// An empty directory for a checkpoint that does not exist yet.
pub fn begin(dir: &Path, name: &str, container: &str) -> Result<PathBuf> {
    check(name)?;
    // The one of `shim checkpoint CONTAINER` is the last one.
    if name != DEFAULT && dir.join(name).exists() {
        fault!(Exists, "checkpoint with name {name} already exists for container {container}");
    }
    let partial = dir.join(format!(".{name}{PARTIAL}"));
    remove(&partial)?;
    make_dir(&partial)?;
    Ok(partial)
}

/// Why CRIU could not: the first error of the log that it leaves beside its images.
pub fn reason(partial: &Path) -> Option<String> {
    let log = fs::read(partial.join("dump.log")).ok()?;
    let log = String::from_utf8_lossy(&log);
    let (_, words) = log.lines().find_map(|line| line.split_once("Error ("))?;
    let words = words.split_once("): ").map_or(words, |(_, words)| words);
    Some(words.trim().to_owned())
}

/// The checkpoint is whole.
pub fn complete(partial: &Path, dir: &Path, name: &str, note: &Note) -> Result<()> {
    atomic::write_json(&partial.join("checkpoint.json"), note, 0o600)?;
    let path = dir.join(name);
    remove(&path)?;
    fs::rename(partial, &path).with_context(|| format!("rename {} to {name}", partial.display()))?;
    fs::File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| format!("sync {}", dir.display()))
}

/// A dump of memory alone is whole; the one before goes.
pub fn complete_memory(partial: &Path, dir: &Path) -> Result<()> {
    let path = dir.join(MEMORY);
    remove(&path)?;
    fs::rename(partial, &path).with_context(|| format!("rename {} to {MEMORY}", partial.display()))
}

/// Removes a checkpoint's directory.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The names, sorted.
pub fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err).with_context(|| format!("list {}", dir.display())),
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("checkpoint.json").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// What stands in a checkpoint's `checkpoint.json`.
pub fn note(images: &Path) -> Result<Note> {
    let note = atomic::read_json(&images.join("checkpoint.json"))?;
    note.with_context(|| format!("{} is no checkpoint of a container", images.display()))
}

/// The runtime's verb that goes on from the images, and its flags; its log goes to `live`.
pub fn restore(command: &mut Command, images: &Path, live: &Path) -> Result<()> {
    command.arg("restore").args(note(images)?.flags);
    command.arg("--image-path").arg(images).arg("--work-path").arg(live);
    Ok(())
}

/// Asks for the addresses that the container had.
pub fn same_addresses(images: &Path, request: &mut network::Request) -> Result<()> {
    let note = note(images)?;
    for at in &mut request.networks {
        if let Some([ip, ip6]) = note.addresses.get(&at.network) {
            (at.ip, at.ip6) = (at.ip.or(*ip), at.ip6.or(*ip6));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_there_once_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("checkpoints");
        assert!(list(&dir).unwrap().is_empty());
        assert!(begin(&dir, "../x", "c").is_err() && find(&dir, "cp", "c").is_err());
        let partial = begin(&dir, "cp", "c").unwrap();
        fs::write(partial.join("left"), "by a killed one").unwrap();
        assert!(list(&dir).unwrap().is_empty());
        let partial = begin(&dir, "cp", "c").unwrap();
        assert!(!partial.join("left").exists() && reason(&partial).is_none());
        let log =
            "(00.01) Dumping\n(00.02) Error (criu/x.c:1): cannot do it\n(00.03) Error (criu/y.c:2): so\n";
        fs::write(partial.join("dump.log"), log).unwrap();
        assert_eq!(reason(&partial).unwrap(), "cannot do it");
        complete(&partial, &dir, "cp", &Note::new(vec!["--file-locks".into()], None)).unwrap();
        assert_eq!(list(&dir).unwrap(), ["cp"]);
        assert!(begin(&dir, "cp", "c").is_err());
        assert_eq!(note(&find(&dir, "cp", "c").unwrap()).unwrap().flags, ["--file-locks"]);
    }

    #[test]
    fn addresses_are_asked_for_again() {
        let mut request = network::Request {
            networks: vec![network::Attachment { network: "bridge".into(), ..Default::default() }],
            ..Default::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let ip: IpAddr = "10.1.2.3".parse().unwrap();
        let note = Note { addresses: [("bridge".to_owned(), [Some(ip), None])].into(), ..Note::default() };
        atomic::write_json(&dir.path().join("checkpoint.json"), &note, 0o600).unwrap();
        same_addresses(dir.path(), &mut request).unwrap();
        assert_eq!(request.networks[0].ip, Some(ip));
    }
}
