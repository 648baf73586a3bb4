//! What COPY and ADD take from a source tree, and its digest: the key of the cache is what is copied, never when.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::dir::Dir;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use sha2::{Digest as _, Sha256};
use sys::path::{Root, file_type};

use super::glob;
use super::ignore::Ignore;
use crate::layer::tree;

/// A tree that files are copied from.
#[derive(Debug)]
pub struct Tree {
    /// Its root.
    pub root: Root,
    /// What is hidden.
    pub ignore: Ignore,
    /// Owners count (another stage); otherwise everything is root's (a context).
    pub owners: bool,
}

/// One source of a COPY, found.
#[derive(Debug, Clone)]
pub struct Selected {
    /// Path in the tree, links on the way followed; empty for the root.
    pub path: PathBuf,
    /// The name it was asked by: what it is called below a directory.
    pub name: PathBuf,
    /// It is a directory, whose content is meant.
    pub directory: bool,
    /// With `--parents`: the directories to make above it.
    pub parents: PathBuf,
}

impl Tree {
    /// The sources that `patterns` name. A pattern with wildcards may name nothing.
    ///
    /// # Errors
    /// A plain name that is not there.
    pub fn select(&self, patterns: &[String], parents: bool) -> Result<Vec<Selected>> {
        let mut found = Vec::new();
        for pattern in patterns {
            // `a/./b`: with --parents only what follows the pivot is kept.
            let pivot = if parents { pattern.find("/./").map(|at| &pattern[..at]) } else { None };
            let clean = tree::clean(pattern.as_bytes())?;
            let text = clean.to_string_lossy().into_owned();
            if glob::is_pattern(&text) {
                let mut names = BTreeSet::new();
                // Only with --parents is `**` more than one `*`.
                let part = |part| if part == "**" && !parents { "*" } else { part };
                self.expand(Path::new(""), &text.split('/').map(part).collect::<Vec<_>>(), &mut names)?;
                for name in names {
                    found.push(self.resolve(&name, parents, pivot)?);
                }
            } else {
                found.push(self.resolve(&clean, parents, pivot)?);
            }
        }
        Ok(found)
    }

    fn expand(&self, at: &Path, parts: &[&str], names: &mut BTreeSet<PathBuf>) -> Result<()> {
        let Some((part, rest)) = parts.split_first() else {
            names.insert(at.to_owned());
            return Ok(());
        };
        if *part == "**" {
            self.expand(at, rest, names)?;
        }
        let Ok(dir) = self.root.open_in(at, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()) else {
            return Ok(());
        };
        for name in list(&dir)? {
            let below = at.join(&name);
            if !self.is_shown(&below) {
                continue;
            }
            if *part == "**" {
                self.expand(&below, parts, names)?;
            } else if name.to_str().is_some_and(|name| glob::component(part, name)) {
                self.expand(&below, rest, names)?;
            }
        }
        Ok(())
    }

    fn resolve(&self, path: &Path, parents: bool, pivot: Option<&str>) -> Result<Selected> {
        let missing = || {
            contracts::fault::Fault::new(
                contracts::fault::Kind::NotFound,
                format!("\"/{}\": not found", path.display()),
            )
        };
        if !path.as_os_str().is_empty() && !self.is_shown(path) {
            return Err(missing().into());
        }
        // A source that is itself a link means what it points to, inside the tree.
        let fd = match self.root.open_in(path, OFlag::O_PATH, Mode::empty()) {
            Ok(fd) => fd,
            Err(err) if matches!(err.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR)) => {
                return Err(missing().into());
            }
            Err(err) => return Err(err).with_context(|| format!("open /{}", path.display())),
        };
        let kept = match (parents, pivot) {
            (false, _) => PathBuf::new(),
            (true, Some(pivot)) => {
                let pivot = tree::clean(pivot.as_bytes())?;
                path.strip_prefix(&pivot).unwrap_or(path).to_owned()
            }
            (true, None) => path.to_owned(),
        };
        let directory = file_type(fstat(&fd)?.st_mode) == SFlag::S_IFDIR;
        Ok(Selected {
            path: path.to_owned(),
            name: path.file_name().map(PathBuf::from).unwrap_or_default(),
            directory,
            parents: if directory { kept } else { kept.parent().map(Path::to_owned).unwrap_or_default() },
        })
    }

    /// Whether a path of the tree is visible. A hidden directory is where anything below it is.
    pub fn is_shown(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        if self.ignore.is_empty() || !self.ignore.hides(&text) {
            return true;
        }
        if !self.ignore.may_show_below(&text) {
            return false;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        // No directory, or none that can be read: nothing below it is shown either.
        let Ok(dir) = self.root.open_in(path, flags, Mode::empty()) else { return false };
        list(&dir).is_ok_and(|names| names.iter().any(|name| self.is_shown(&path.join(name))))
    }

    /// Adds all that `selected` holds to `hash`: names, kinds, modes, owners where they count, content.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn digest(&self, selected: &Selected, exclude: &Ignore, hash: &mut Sha256) -> Result<()> {
        let fd = self.root.open_in(&selected.path, OFlag::O_PATH, Mode::empty())?;
        let stat = fstat(&fd)?;
        hash_text(hash, selected.name.as_os_str().as_bytes());
        hash_text(hash, selected.parents.as_os_str().as_bytes());
        let mut links = BTreeMap::new();
        self.digest_one(&fd, &stat, &selected.path, Path::new(""), exclude, hash, &mut links)
    }

    #[expect(clippy::too_many_arguments, reason = "the walk's state; a struct would only rename it")]
    fn digest_one(
        &self,
        fd: &OwnedFd,
        stat: &FileStat,
        path: &Path,
        relative: &Path,
        exclude: &Ignore,
        hash: &mut Sha256,
        links: &mut BTreeMap<(u64, u64), u64>,
    ) -> Result<()> {
        hash.update(stat.st_mode.to_le_bytes());
        if self.owners {
            hash.update(stat.st_uid.to_le_bytes());
            hash.update(stat.st_gid.to_le_bytes());
        }
        match file_type(stat.st_mode) {
            SFlag::S_IFDIR => {
                let dir =
                    openat(fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
                for name in list(&dir)? {
                    let (below, inner) = (path.join(&name), relative.join(&name));
                    if !self.is_shown(&below) || exclude.hides(&inner.to_string_lossy()) {
                        continue;
                    }
                    hash_text(hash, name.as_bytes());
                    let child = tree::open_name(dir.as_fd(), &name)?;
                    let stat = fstat(&child)?;
                    self.digest_one(&child, &stat, &below, &inner, exclude, hash, links)?;
                }
                hash.update(b"\0end");
            }
            SFlag::S_IFLNK => hash_text(hash, readlinkat(fd, "")?.as_bytes()),
            SFlag::S_IFREG => {
                if stat.st_nlink > 1 {
                    let next = links.len() as u64;
                    let first = *links.entry((stat.st_dev, stat.st_ino)).or_insert(next);
                    hash.update(first.to_le_bytes());
                    if first != next {
                        return Ok(());
                    }
                }
                hash.update(stat.st_size.to_le_bytes());
                hash_content(fd, hash).with_context(|| format!("read /{}", path.display()))?;
            }
            _ => hash.update(stat.st_rdev.to_le_bytes()),
        }
        Ok(())
    }
}

fn hash_text(hash: &mut Sha256, text: &[u8]) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

fn hash_content(fd: &OwnedFd, hash: &mut Sha256) -> Result<()> {
    let mut file = reopen(fd)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            len => hash.update(&buffer[..len]),
        }
    }
}

/// Opens for reading what an `O_PATH` descriptor of a regular file refers to.
///
/// # Errors
/// No permission.
pub fn reopen(fd: &OwnedFd) -> Result<File> {
    use std::os::fd::AsRawFd as _;
    Ok(File::open(format!("/proc/self/fd/{}", fd.as_raw_fd()))?)
}

/// The names in a directory, sorted.
///
/// # Errors
/// It cannot be read.
pub fn list(dir: &OwnedFd) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    for entry in Dir::openat(dir, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && entry.file_type() != Some(nix::dir::Type::Socket) {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}
