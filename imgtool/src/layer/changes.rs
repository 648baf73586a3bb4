//! What an overlay's upper directory changes in the layers below it, name by name.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag};
use sys::path::{Root, file_type};

use super::owner::Owners;
use super::tree::{self, is_whiteout, names};
use super::whiteout;

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The layers below have no such name.
    Added,
    /// It is another file or has other properties; or a directory in which something changed.
    Changed,
    /// It is gone, and so is what was below it.
    Deleted,
}

impl Change {
    /// docker's letter for it.
    #[must_use]
    pub const fn letter(self) -> &'static str {
        match self {
            Self::Added => "A",
            Self::Changed => "C",
            Self::Deleted => "D",
        }
    }
}

/// All changes below `upper`, sorted by path; `lowers` are the layers, topmost first.
///
/// # Errors
/// A directory cannot be read.
pub fn list(upper: &Root, lowers: &[Root], owners: Owners<'_>) -> Result<Vec<(Change, PathBuf)>> {
    let open = |root: &Root| openat(root, ".", DIRECTORY, Mode::empty()).context("open a layer");
    let mut found = Vec::new();
    let below = Below { layers: lowers.iter().map(open).collect::<Result<_>>()?, owners };
    directory(&open(upper)?, &below, Path::new(""), &mut found)?;
    found.sort_by(|(_, a), (_, b)| a.as_os_str().cmp(b.as_os_str()));
    Ok(found)
}

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// One directory as the lower layers show it: theirs, topmost first.
struct Below<'a> {
    layers: Vec<OwnedFd>,
    /// Whose in the layers is what somebody owns in the upper directory.
    owners: Owners<'a>,
}

/// What the lower layers have under a name.
struct Lower<'a> {
    stat: FileStat,
    /// The directories that make it up, if it is one.
    below: Below<'a>,
}

impl<'a> Below<'a> {
    fn name(&self, name: &OsStr) -> Result<Option<Lower<'a>>> {
        let mut found: Option<Lower<'a>> = None;
        for layer in &self.layers {
            let Some(stat) = tree::stat_in(layer, name)? else { continue };
            if is_whiteout(&stat) {
                break;
            }
            let is_directory = file_type(stat.st_mode) == SFlag::S_IFDIR;
            let lower = match &mut found {
                // What is no directory ends those above it.
                Some(_) if !is_directory => break,
                Some(lower) => lower,
                None => found.insert(Lower { stat, below: Self { layers: Vec::new(), owners: self.owners } }),
            };
            if !is_directory {
                break;
            }
            let fd = openat(layer, name, DIRECTORY, Mode::empty())?;
            let opaque = whiteout::is_opaque(&fd)?;
            lower.below.layers.push(fd);
            if opaque {
                break;
            }
        }
        Ok(found)
    }

    fn names(&self) -> Result<BTreeSet<OsString>> {
        let mut all = BTreeSet::new();
        for layer in &self.layers {
            all.extend(names(layer)?);
        }
        Ok(all)
    }
}

fn directory(
    upper: &OwnedFd,
    below: &Below<'_>,
    path: &Path,
    found: &mut Vec<(Change, PathBuf)>,
) -> Result<()> {
    let here = names(upper)?;
    for name in &here {
        let at = path.join(name);
        one(upper, below, name, &at, found).with_context(|| format!("read {}", at.display()))?;
    }
    // overlayfs marks every new directory; what lower layers had there is gone.
    if !below.layers.is_empty() && whiteout::is_opaque(upper)? {
        for name in below.names()?.iter().filter(|name| here.binary_search(name).is_err()) {
            if below.name(name)?.is_some() {
                found.push((Change::Deleted, path.join(name)));
            }
        }
    }
    Ok(())
}

fn one(
    upper: &OwnedFd,
    below: &Below<'_>,
    name: &OsStr,
    path: &Path,
    found: &mut Vec<(Change, PathBuf)>,
) -> Result<()> {
    let Some(stat) = tree::stat_in(upper, name)? else { return Ok(()) };
    let lower = below.name(name)?;
    if is_whiteout(&stat) {
        if lower.is_some() {
            found.push((Change::Deleted, path.into()));
        }
        return Ok(());
    }
    let before = found.len();
    if file_type(stat.st_mode) == SFlag::S_IFDIR {
        let fd = openat(upper, name, DIRECTORY, Mode::empty())?;
        let nothing = Below { layers: Vec::new(), owners: below.owners };
        let inside = lower.as_ref().map_or(&nothing, |lower| &lower.below);
        directory(&fd, inside, path, found)?;
    }
    match lower {
        None => found.push((Change::Added, path.into())),
        // Copied up, but nothing in it and nothing about it changed.
        Some(lower) if found.len() == before && same(&lower.stat, &stat, below.owners) => {}
        Some(_) => found.push((Change::Changed, path.into())),
    }
    Ok(())
}

/// A directory's size and time tell only of its names, which are compared one by one.
fn same(a: &FileStat, b: &FileStat, owners: Owners<'_>) -> bool {
    let owner = owners.of(b.st_uid, b.st_gid).ok();
    (a.st_mode, Some((a.st_uid, a.st_gid)), a.st_rdev) == (b.st_mode, owner, b.st_rdev)
        && (file_type(a.st_mode) == SFlag::S_IFDIR
            || (a.st_size, a.st_mtime, a.st_mtime_nsec) == (b.st_size, b.st_mtime, b.st_mtime_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd as _;

    #[test]
    fn every_kind_of_change() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let make = |layer: &str, path: &str| {
            let path = dir.path().join(layer).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, layer).unwrap();
        };
        for path in ["etc/kept", "etc/gone", "etc/edited", "was/a", "was/deep/b", "hidden/x"] {
            make("low", path);
        }
        make("mid", "etc/kept2");
        make("up", "etc/edited");
        make("up", "new/file");
        make("up", "was/c");
        // Copied up only.
        fs::create_dir_all(dir.path().join("up/hidden")).unwrap();
        let root = |layer: &str| Root::open(&dir.path().join(layer)).unwrap();
        let (up, lowers) = (root("up"), [root("mid"), root("low")]);
        let etc = fs::File::open(dir.path().join("up/etc")).unwrap();
        whiteout::make(etc.as_fd(), OsStr::new("gone")).unwrap();
        whiteout::make(etc.as_fd(), OsStr::new("never-was")).unwrap();
        whiteout::set_opaque(fs::File::open(dir.path().join("up/was")).unwrap()).unwrap();
        let found: Vec<String> = list(&up, &lowers, Owners::Kept)
            .unwrap()
            .into_iter()
            .map(|(change, path)| format!("{} {}", change.letter(), path.display()))
            .collect();
        let wanted = [
            "C etc",
            "C etc/edited",
            "D etc/gone",
            "A new",
            "A new/file",
            "C was",
            "D was/a",
            "A was/c",
            "D was/deep",
        ];
        assert_eq!(found, wanted);
    }
}
