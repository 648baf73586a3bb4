//! Files that are either the old or the new version, never half of one: temporary file, fsync, rename.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

/// Replaces `path` by `bytes` in one step, with permission bits `mode`.
///
/// After a crash or on a full disk the old content stands (or the file does not exist, if it did not before); the
/// temporary file is removed on failure. The caller holds the lock that guards `path`.
///
/// # Errors
/// Whatever the file system says, naming `path`.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    // The pid keeps two writers apart; a left-over of a killed writer with the same pid is simply overwritten.
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&temporary);
    let written = write_synced(temporary, bytes, mode).and_then(|()| fs::rename(temporary, path));
    if let Err(err) = written {
        let _ = fs::remove_file(temporary);
        return Err(err).with_context(|| format!("write {}", path.display()));
    }
    // Without this a power cut could forget the rename itself.
    if let Some(parent) = path.parent() {
        File::open(parent)
            .and_then(|dir| dir.sync_all())
            .with_context(|| format!("sync {}", parent.display()))?;
    }
    Ok(())
}

/// [`write()`] of a value as JSON with a final newline.
///
/// # Errors
/// As [`write()`].
pub fn write_json(path: &Path, value: &impl Serialize, mode: u32) -> Result<()> {
    let mut bytes = serde_json::to_vec(value).with_context(|| format!("encode {}", path.display()))?;
    bytes.push(b'\n');
    write(path, &bytes, mode)
}

/// Reads a JSON file; `None` where it does not exist, or is empty: what a power cut makes of one that nobody waited for
/// ([`write_json_volatile`]).
///
/// # Errors
/// Unreadable or not the expected JSON, naming `path`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err).with_context(|| format!("read {}", path.display())),
    };
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&text).map(Some).with_context(|| format!("parse {}", path.display()))
}

/// [`write_json`] without waiting for the disk: still one step for every reader and for a killed writer, but a power
/// cut may lose it. For what a reboot makes void anyway.
///
/// # Errors
/// As [`write()`].
pub fn write_json_volatile(path: &Path, value: &impl Serialize, mode: u32) -> Result<()> {
    let mut bytes = serde_json::to_vec(value).with_context(|| format!("encode {}", path.display()))?;
    bytes.push(b'\n');
    write_volatile(path, &bytes, mode)
}

/// [`write()`] without waiting for the disk; see [`write_json_volatile`].
///
/// # Errors
/// As [`write()`].
pub fn write_volatile(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&temporary);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(temporary, path));
    written.or_else(|err| {
        let _ = fs::remove_file(temporary);
        Err(err).with_context(|| format!("write {}", path.display()))
    })
}

/// Removes from `dir` the temporary files of writers that were killed: those whose process is no more.
///
/// Needs no lock, as a living writer's file stays. What cannot be removed is left for the next time.
pub fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let writer =
            name.to_str().and_then(|name| name.strip_suffix(".tmp")?.rsplit_once('.')?.1.parse().ok());
        let Some(pid) = writer.filter(|pid: &u32| *pid > 0) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.json");
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), None);
        write_json(&path, &vec![1, 2], 0o600).unwrap();
        write_json(&path, &vec![3], 0o600).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        fs::write(dir.path().join("cut"), "").unwrap();
        assert_eq!(read_json::<Vec<u8>>(&dir.path().join("cut")).unwrap(), None);
        fs::remove_file(dir.path().join("cut")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn sweeps_what_the_dead_left() {
        let dir = tempfile::tempdir().unwrap();
        let alive = format!("f.json.{}.tmp", std::process::id());
        // No pid is ever this large.
        for name in [alive.as_str(), "f.json.4194305.tmp", "f.json", "f.tmp", "f.json.x.tmp"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        sweep(dir.path());
        let left = |name: &str| dir.path().join(name).exists();
        assert!(!left("f.json.4194305.tmp"));
        assert!(left(&alive) && left("f.json") && left("f.tmp") && left("f.json.x.tmp"));
    }

    #[test]
    fn names_the_file_it_cannot_parse() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("broken.json");
        fs::write(&path, "{").unwrap();
        assert!(format!("{:#}", read_json::<Vec<u8>>(&path).unwrap_err()).contains("broken.json"));
    }
}
