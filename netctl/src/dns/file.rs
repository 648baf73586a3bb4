//! Changes of the zone files, by whoever holds the lock of their owner. A container that comes costs one appended line,
//! whatever the number of others.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::atomic;

use super::zone::{Entry, Zone, file_name};
use crate::state;

/// Enters a container in its network's file in `dir`; of `zone` all but the entries counts. Whether the network had no
/// file before.
///
/// # Errors
/// The file system's.
pub fn enter(dir: &Path, zone: &Zone, entry: &Entry) -> Result<bool> {
    let path = dir.join(zone.file_name());
    let before = state::read(&path)?;
    let text = before.as_deref().unwrap_or_default();
    let line = entry.line();
    let is_plain = text.ends_with('\n')
        && text.split('\n').next() == Some(&zone.header())
        && !text.split('\n').any(|other| is_about(other, &entry.id));
    if is_plain {
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(line.as_bytes()))
            .with_context(|| format!("write {}", path.display()))?;
        return Ok(false);
    }
    let others = text.split_inclusive('\n').skip(1);
    let others = others.filter(|other| other.ends_with('\n') && !is_about(other, &entry.id));
    let text: String =
        [zone.header().as_str(), "\n"].into_iter().chain(others).chain([line.as_str()]).collect();
    write(&path, &text)?;
    Ok(before.is_none())
}

/// What the files say of a network; `None` where nobody is on it.
///
/// # Errors
/// The file system's.
pub fn read(dir: &Path, network: &str) -> Result<Option<Zone>> {
    for internal in [false, true] {
        let name = file_name(network, internal);
        if let Some(text) = state::read(&dir.join(&name))? {
            return Ok(Some(Zone::parse(&name, &text)));
        }
    }
    Ok(None)
}

/// Takes a container out; the file goes with the last one.
///
/// # Errors
/// The file system's.
pub fn leave(dir: &Path, network: &str, id: &str) -> Result<()> {
    for internal in [false, true] {
        let path = dir.join(file_name(network, internal));
        let Some(text) = state::read(&path)? else { continue };
        let kept: Vec<&str> = text
            .split_inclusive('\n')
            .enumerate()
            .filter(|(number, line)| *number == 0 || line.ends_with('\n') && !is_about(line, id))
            .map(|(_, line)| line)
            .collect();
        if kept.len() <= 1 {
            // The server sees it go, and goes with the last one.
            state::remove(&path)?;
        } else if kept.len() < text.split_inclusive('\n').count() {
            write(&path, &kept.concat())?;
        }
    }
    Ok(())
}

/// Changes the servers that a network's containers have for other names; nothing where nobody is on it.
///
/// # Errors
/// The file system's.
pub fn set_upstream(dir: &Path, network: &str, upstream: &[IpAddr]) -> Result<()> {
    for internal in [false, true] {
        let name = file_name(network, internal);
        let path = dir.join(&name);
        let Some(text) = state::read(&path)? else { continue };
        let zone = Zone { upstream: upstream.to_vec(), ..Zone::parse(&name, &text) };
        let entries = text.split_inclusive('\n').skip(1);
        write(&path, &[zone.header().as_str(), "\n"].into_iter().chain(entries).collect::<String>())?;
    }
    Ok(())
}

fn is_about(line: &str, id: &str) -> bool {
    line.strip_prefix(id).is_some_and(|rest| rest.starts_with(' '))
}

fn write(path: &Path, text: &str) -> Result<()> {
    atomic::write_volatile(path, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let zone = Zone { network: "n".into(), listen: vec![[10, 0, 0, 1].into()], ..Zone::default() };
        let entry = |id: &str, last: u8| Entry {
            id: id.into(),
            addresses: vec![[10, 0, 0, last].into()],
            names: vec![format!("name{last}")],
            upstream: vec![],
        };
        let text = || std::fs::read_to_string(dir.path().join("n")).unwrap();
        assert!(enter(dir.path(), &zone, &entry("a", 2)).unwrap());
        assert!(!enter(dir.path(), &zone, &entry("ab", 3)).unwrap());
        assert!(!enter(dir.path(), &zone, &entry("a", 4)).unwrap());
        assert_eq!(text(), "10.0.0.1\nab 10.0.0.3  name3\na 10.0.0.4  name4\n");
        set_upstream(dir.path(), "n", &[[9, 9, 9, 9].into()]).unwrap();
        assert!(text().starts_with("10.0.0.1 9.9.9.9\nab "));
        // Killed while it wrote a line.
        std::fs::write(dir.path().join("n"), "10.0.0.1\nab 10.0.0.3  name3\nx 10.0").unwrap();
        enter(dir.path(), &zone, &entry("c", 5)).unwrap();
        assert_eq!(text(), "10.0.0.1\nab 10.0.0.3  name3\nc 10.0.0.5  name5\n");
        leave(dir.path(), "n", "ab").unwrap();
        leave(dir.path(), "n", "nosuch").unwrap();
        assert_eq!(text(), "10.0.0.1\nc 10.0.0.5  name5\n");
        leave(dir.path(), "n", "c").unwrap();
        assert!(!dir.path().join("n").exists());
    }
}
