//! What differs between two trees, as `docker diff` tells it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag};
use sys::path::{Root, file_type};

use super::changes::Change;
use super::{diff, tree};

/// Changes by path relative to the root, parents before children.
pub type Changes = Vec<(Change, PathBuf)>;

/// What `new` has that `old` has not, and the other way round. Content counts, modes, owners and attributes; times do
/// not.
///
/// # Errors
/// A tree cannot be read.
pub fn trees(old: &Root, new: &Root) -> Result<Changes> {
    let mut changes = Vec::new();
    let (old, new) = (directory(old, OsStr::new("."))?, directory(new, OsStr::new("."))?);
    both(&old, &new, Path::new(""), &mut changes)?;
    Ok(changes)
}

fn both(old: &OwnedFd, new: &OwnedFd, path: &Path, changes: &mut Changes) -> Result<()> {
    let names: BTreeSet<OsString> = tree::names(old)?.into_iter().chain(tree::names(new)?).collect();
    for name in names {
        let below = path.join(&name);
        let (was, is) = (tree::stat_in(old, &name)?, tree::stat_in(new, &name)?);
        match (was, is) {
            (None, None) => {}
            (Some(_), None) => changes.push((Change::Deleted, below)),
            (None, Some(is)) => added(new, &name, &is, below, changes)?,
            (Some(was), Some(is)) => {
                let kinds = (file_type(was.st_mode), file_type(is.st_mode));
                if kinds != (SFlag::S_IFDIR, SFlag::S_IFDIR) {
                    let same = kinds.0 == kinds.1 && same(old, new, &name, (&was, &is))?;
                    if !same {
                        changes.push((Change::Changed, below.clone()));
                    }
                    if !same && kinds.1 == SFlag::S_IFDIR {
                        children(&directory(new, &name)?, &below, changes)?;
                    }
                    continue;
                }
                let at = changes.len();
                both(&directory(old, &name)?, &directory(new, &name)?, &below, changes)?;
                if changes.len() > at || !same(old, new, &name, (&was, &is))? {
                    changes.insert(at, (Change::Changed, below));
                }
            }
        }
    }
    Ok(())
}

fn added(new: &OwnedFd, name: &OsStr, stat: &FileStat, path: PathBuf, changes: &mut Changes) -> Result<()> {
    changes.push((Change::Added, path.clone()));
    if file_type(stat.st_mode) == SFlag::S_IFDIR {
        children(&directory(new, name)?, &path, changes)?;
    }
    Ok(())
}

fn children(new: &OwnedFd, path: &Path, changes: &mut Changes) -> Result<()> {
    for name in tree::names(new)? {
        if let Some(stat) = tree::stat_in(new, &name)? {
            added(new, &name, &stat, path.join(&name), changes)?;
        }
    }
    Ok(())
}

/// Two of one kind. A file that both trees take from the same layer is one inode, and not read.
fn same(old: &OwnedFd, new: &OwnedFd, name: &OsStr, (was, is): (&FileStat, &FileStat)) -> Result<bool> {
    let looks = |stat: &FileStat| (stat.st_mode, stat.st_uid, stat.st_gid);
    let written = |stat: &FileStat| (stat.st_ino, stat.st_size, stat.st_ctime, stat.st_ctime_nsec);
    if looks(was) != looks(is) {
        return Ok(false);
    }
    if written(was) == written(is) {
        return Ok(true);
    }
    if diff::attributes(old.as_fd(), name)? != diff::attributes(new.as_fd(), name)? {
        return Ok(false);
    }
    match file_type(is.st_mode) {
        SFlag::S_IFREG => Ok(was.st_size == is.st_size && same_content(old, new, name)?),
        SFlag::S_IFLNK => Ok(readlinkat(old, name)? == readlinkat(new, name)?),
        SFlag::S_IFCHR | SFlag::S_IFBLK => Ok(was.st_rdev == is.st_rdev),
        _ => Ok(true),
    }
}

fn same_content(old: &OwnedFd, new: &OwnedFd, name: &OsStr) -> Result<bool> {
    let open = |at: &OwnedFd| -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        Ok(openat(at, name, flags, Mode::empty()).with_context(|| format!("open {}", name.display()))?.into())
    };
    let (mut old, mut new) = (open(old)?, open(new)?);
    let (mut was, mut is) = (Vec::new(), Vec::new());
    loop {
        was.clear();
        is.clear();
        old.by_ref().take(256 << 10).read_to_end(&mut was)?;
        new.by_ref().take(256 << 10).read_to_end(&mut is)?;
        if was != is {
            return Ok(false);
        }
        if was.is_empty() {
            return Ok(true);
        }
    }
}

fn directory(at: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(at, name, flags, Mode::empty()).with_context(|| format!("open {}", name.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn shown(changes: &Changes) -> Vec<String> {
        changes.iter().map(|(change, path)| format!("{} /{}", change.letter(), path.display())).collect()
    }

    #[test]
    fn trees_differ_by_content_not_by_time() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for side in ["old", "new"] {
            fs::create_dir_all(at(side).join("d/same")).unwrap();
            fs::write(at(side).join("d/kept"), "k").unwrap();
            fs::write(at(side).join("d/changed"), side).unwrap();
            std::os::unix::fs::symlink(side, at(side).join("link")).unwrap();
        }
        fs::write(at("old").join("gone"), "").unwrap();
        fs::write(at("old").join("turned"), "").unwrap();
        fs::create_dir_all(at("new").join("turned/inner")).unwrap();
        let (old, new) = (Root::open(&at("old")).unwrap(), Root::open(&at("new")).unwrap());
        let want = ["C /d", "C /d/changed", "D /gone", "C /link", "C /turned", "A /turned/inner"];
        assert_eq!(shown(&trees(&old, &new).unwrap()), want);
        assert!(trees(&new, &new).unwrap().is_empty());
    }
}
