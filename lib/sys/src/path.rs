//! Path resolution that cannot leave a root: `openat2(2)` with `RESOLVE_IN_ROOT` on directory file descriptors.
//!
//! Every path inside a container or an archive is hostile: it may hold `..`, absolute symbolic links, or be changed
//! while it is walked. A [`Root`] resolves such a path as a process chrooted there would, on descriptors only.

mod make;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};

pub use make::Node;

/// How often the kernel is asked for a path with `..` while names are exchanged all the time: who does that on purpose may
/// make us fail, but not try for ever.
const ATTEMPTS: u32 = 2000;

/// A directory that no path resolved through it can leave.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for Root {
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl Root {
    /// Opens a trusted host directory as a root.
    ///
    /// # Errors
    /// Whatever `open(2)` says; `ENOTDIR` where `path` is no directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(Self { fd })
    }

    /// Opens `path` inside the root. Symbolic links are followed as if the root were `/`; magic links (those of
    /// `/proc/PID/fd` and the like) are refused with `ELOOP`.
    ///
    /// # Errors
    /// Whatever `openat2(2)` says.
    pub fn open_in(&self, path: &Path, flags: OFlag, mode: Mode) -> io::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .mode(mode)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        for _ in 1..ATTEMPTS {
            // EAGAIN: a rename or mount somewhere raced with the `..` check; the kernel asks to try again.
            match openat2(&self.fd, non_empty(path), how) {
                Err(Errno::EAGAIN) => _ = nix::sched::sched_yield(),
                other => return Ok(other?),
            }
        }
        Ok(openat2(&self.fd, non_empty(path), how)?)
    }

    /// Makes `path` and all its missing parents as directories and returns an `O_PATH` descriptor of the last.
    ///
    /// # Errors
    /// `ENOTDIR` where something else stands in the way, `EINVAL` for a `..` below the existing part.
    pub fn mkdir_all(&self, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
        let directory = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.open_in(path, directory, Mode::empty()) {
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => {}
            other => return other,
        }
        let parts: Vec<&OsStr> = named_components(path);
        // The longest existing prefix is resolved by the kernel; what is missing below it is made name by name.
        let mut existing = parts.len();
        let mut at = loop {
            existing = existing.saturating_sub(1);
            let prefix: PathBuf = parts[..existing].iter().collect();
            match self.open_in(&prefix, directory, Mode::empty()) {
                Err(err) if err.raw_os_error() == Some(libc::ENOENT) && existing > 0 => {}
                other => break other?,
            }
        };
        for name in &parts[existing..] {
            if *name == OsStr::new("..") {
                return Err(io::Error::from_raw_os_error(libc::EINVAL));
            }
            match mkdirat(&at, *name, mode) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(err) => return Err(err.into()),
            }
            at = openat(&at, *name, directory | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        }
        Ok(at)
    }

    /// Resolves the parent of `path` and returns it with the last name, for the `…at(2)` calls.
    ///
    /// # Errors
    /// `EINVAL` where `path` has no last name (`/`, `..`), else whatever `openat2(2)` says of the parent.
    pub fn parent_of(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let parent = path.parent().unwrap_or(Path::new("."));
        let fd = self.open_in(parent, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
        Ok((fd, name.to_owned()))
    }

    /// Reads a regular file of at most `limit` bytes. A FIFO or device in its place is refused, so that a hostile
    /// file can neither block the reader nor exhaust its memory.
    ///
    /// # Errors
    /// `EINVAL` where it is not a regular file, `EFBIG` where it is longer than `limit`.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let fd = self.open_in(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, Mode::empty())?;
        if file_type(fstat(&fd)?.st_mode) != SFlag::S_IFREG {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut bytes = Vec::new();
        File::from(fd).take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        Ok(bytes)
    }

    /// Whether something (a dangling link counts) stands at `path`.
    ///
    /// # Errors
    /// Whatever the look-up says beyond `ENOENT` and `ENOTDIR`.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        let found = self
            .parent_of(path)
            .and_then(|(dir, name)| Ok(fstatat(&dir, &*name, AtFlags::AT_SYMLINK_NOFOLLOW)?));
        match found {
            Ok(_) => Ok(true),
            Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
            Err(err) => Err(err),
        }
    }
}

/// The file type bits of an `st_mode`.
#[must_use]
pub fn file_type(mode: libc::mode_t) -> SFlag {
    SFlag::from_bits_truncate(mode & libc::S_IFMT)
}

fn non_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn named_components(path: &Path) -> Vec<&OsStr> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "inside").unwrap();
        symlink("/etc/passwd", dir.path().join("absolute")).unwrap();
        symlink("../../../etc/passwd", dir.path().join("etc/relative")).unwrap();
        for path in ["absolute", "/etc/relative", "../../etc/passwd"] {
            assert_eq!(root.read(Path::new(path), 100).unwrap(), b"inside", "{path}");
        }
    }

    #[test]
    fn mkdir_all_follows_links_inside_only() {
        let (dir, root) = root();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        symlink("/real", dir.path().join("link")).unwrap();
        symlink("/nowhere", dir.path().join("dangling")).unwrap();
        let mode = Mode::from_bits_truncate(0o755);
        root.mkdir_all(Path::new("/link/a/b"), mode).unwrap();
        assert!(dir.path().join("real/a/b").is_dir());
        assert!(root.mkdir_all(Path::new("dangling/x"), mode).is_err());
        assert!(root.mkdir_all(Path::new("new/../../x"), mode).is_err());
        root.mkdir_all(Path::new("/"), mode).unwrap();
    }

    #[test]
    fn read_refuses_what_is_not_a_small_file() {
        let (dir, root) = root();
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).unwrap();
        std::fs::write(dir.path().join("big"), [0; 11]).unwrap();
        assert_eq!(root.read(Path::new("fifo"), 10).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(root.read(Path::new("big"), 10).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    }
}
