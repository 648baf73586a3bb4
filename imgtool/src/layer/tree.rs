//! Making things below a root by hostile names: every parent is resolved inside the root on descriptors, the last
//! name is never followed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use sys::path::{Root, file_type};

use super::read::shown;

/// Directories kept open. Archives list files directory by directory, so few serve nearly every look-up.
const CACHED: usize = 64;

/// A root with its recently used directories open.
#[derive(Debug)]
pub struct Tree {
    root: Root,
    open: HashMap<PathBuf, Rc<OwnedFd>>,
}

impl Tree {
    /// Works below `root`.
    pub fn new(root: Root) -> Self {
        Self { root, open: HashMap::new() }
    }

    /// The root itself.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The directory at `path` (cleaned), with missing ones made (mode 0755, owned by root).
    ///
    /// # Errors
    /// Something that is no directory stands in the way.
    pub fn directory(&mut self, path: &Path) -> Result<Rc<OwnedFd>> {
        if let Some(found) = self.open.get(path) {
            return Ok(Rc::clone(found));
        }
        let fd = self
            .root
            .mkdir_all(path, Mode::from_bits_truncate(0o755))
            .with_context(|| format!("make directory {}", shown(path.as_os_str().as_bytes())))?;
        if self.open.len() >= CACHED {
            self.open.clear();
        }
        let fd = Rc::new(fd);
        self.open.insert(path.to_owned(), Rc::clone(&fd));
        Ok(fd)
    }

    /// The parent directory of `path` (cleaned, not the root) and its last name.
    ///
    /// # Errors
    /// As [`Self::directory`].
    pub fn parent<'a>(&mut self, path: &'a Path) -> Result<(Rc<OwnedFd>, &'a OsStr)> {
        let name = path.file_name().context("the root cannot be replaced")?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }

    /// Removes whatever stands at `name` in `directory`, with all below it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(&mut self, directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(err) => return Err(err).with_context(|| format!("remove {}", name.display())),
        }
        // A cached descriptor below it would come to mean a directory that has no name any more.
        self.open.clear();
        std::fs::remove_dir_all(in_directory(directory, name))
            .with_context(|| format!("remove {}", name.display()))
    }
}

/// A name in an open directory as a path for the standard library, which keeps to the descriptor.
pub fn in_directory(directory: impl AsFd, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())).join(name)
}

/// `lstat` of a name in an open directory; `None` where nothing is there.
///
/// # Errors
/// Whatever `fstatat(2)` says beyond that.
pub fn stat_in(directory: impl AsFd, name: &OsStr) -> Result<Option<FileStat>> {
    match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("stat {}", name.display())),
    }
}

/// A directory's names, sorted; without sockets.
pub fn names(fd: &OwnedFd) -> Result<Vec<OsString>> {
    let mut directory = nix::dir::Dir::openat(fd, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        // Sockets are left out: they mean nothing without the process that listens.
        if !matches!(name, b"." | b"..") && entry.file_type() != Some(nix::dir::Type::Socket) {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    names.sort();
    Ok(names)
}

/// Makes the directory `name`, or keeps the one that is there.
///
/// # Errors
/// `EEXIST` where something else has the name.
pub fn make_directory(directory: BorrowedFd<'_>, name: &OsStr, mode: Mode) -> nix::Result<()> {
    match mkdirat(directory, name, mode) {
        Err(Errno::EEXIST) => match fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if file_type(stat.st_mode) == SFlag::S_IFDIR => Ok(()),
            _ => Err(Errno::EEXIST),
        },
        other => other,
    }
}

/// Opens the name itself, whatever it is, without following it.
///
/// # Errors
/// Whatever `openat(2)` says.
pub fn open_name(directory: BorrowedFd<'_>, name: &OsStr) -> nix::Result<OwnedFd> {
    nix::fcntl::openat(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
}

/// A name from an archive as a path relative to the root: no leading slash, no `.`, every `..` taken away with what
/// it goes back over, and at the root with nothing. Empty for the root itself.
///
/// # Errors
/// A NUL inside the name.
pub fn clean(name: &[u8]) -> Result<PathBuf> {
    ensure!(!name.contains(&0), "NUL in the name {}", shown(name));
    let mut clean = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// Whether a `stat` is overlayfs' mark of a deleted name: a character device 0:0.
pub fn is_whiteout(stat: &FileStat) -> bool {
    file_type(stat.st_mode) == SFlag::S_IFCHR && stat.st_rdev == 0
}

/// The permission bits of a mode, setuid, setgid and sticky included.
pub fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode & 0o7777 & !libc::S_IFMT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_length_makes_a_short_error() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(Root::open(dir.path()).unwrap());
        let err = tree.directory(Path::new(&"d\x1b/".repeat(5000))).unwrap_err();
        let shown = format!("{err:#}");
        assert!(shown.len() < 3000 && !shown.contains('\x1b'), "{} bytes: {shown}", shown.len());
    }
}
