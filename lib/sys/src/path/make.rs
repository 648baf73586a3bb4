//! Paths of which something is missing, made inside a [`Root`] also where a symbolic link leads to what is not there yet.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use super::{Root, file_type, named_components};

/// As many symbolic links as the kernel follows for one path.
const MOST_LINKS: usize = 40;
const ITSELF: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// What [`Root::make`] makes at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

impl Root {
    /// Makes what is missing of `path`: `last` at its end, directories before. Returns an `O_PATH` descriptor of the end,
    /// which may be of another kind where something is there.
    ///
    /// # Errors
    /// `ENOTDIR` where something else stands in the way, `EINVAL` for a `..` below what was missing, `ELOOP`.
    pub fn make(&self, path: &Path, last: Node, mode: Mode) -> io::Result<OwnedFd> {
        match self.open_in(path, OFlag::O_PATH, Mode::empty()) {
            Err(err) if err.raw_os_error() == Some(libc::ENOENT) => Ok(self.walk(path, last, mode)?),
            other => other,
        }
    }

    /// Name by name on descriptors, as a process chrooted here would go: whatever is exchanged meanwhile, each is the child
    /// of the one before, and `..` leads back to where we came from.
    fn walk(&self, path: &Path, last: Node, mode: Mode) -> nix::Result<OwnedFd> {
        let names = |path: &Path| -> Vec<OsString> {
            named_components(path).into_iter().rev().map(ToOwned::to_owned).collect()
        };
        let mut left = names(path);
        let mut entered: Vec<OwnedFd> = Vec::new();
        let (mut links, mut made) = (0, false);
        while let Some(name) = left.pop() {
            if name == ".." {
                if made {
                    return Err(Errno::EINVAL);
                }
                entered.pop();
                continue;
            }
            let at = entered.last().map_or(self.as_fd(), |fd| fd.as_fd());
            let found = match openat(at, name.as_os_str(), ITSELF, Mode::empty()) {
                Err(Errno::ENOENT) => {
                    made = true;
                    let new = if last == Node::File && left.is_empty() {
                        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                        openat(at, name.as_os_str(), flags, mode).map(drop)
                    } else {
                        mkdirat(at, name.as_os_str(), mode)
                    };
                    // Somebody else may have been faster.
                    new.or_else(|err| if err == Errno::EEXIST { Ok(()) } else { Err(err) })?;
                    openat(at, name.as_os_str(), ITSELF, Mode::empty())?
                }
                other => other?,
            };
            match file_type(fstat(&found)?.st_mode) {
                SFlag::S_IFDIR => entered.push(found),
                SFlag::S_IFLNK if links == MOST_LINKS => return Err(Errno::ELOOP),
                SFlag::S_IFLNK => {
                    links += 1;
                    let target = readlinkat(&found, "")?;
                    let target = Path::new(&target);
                    if target.is_absolute() {
                        entered.clear();
                    }
                    left.extend(names(target));
                }
                _ if left.is_empty() => return Ok(found),
                _ => return Err(Errno::ENOTDIR),
            }
        }
        match entered.pop() {
            Some(fd) => Ok(fd),
            None => openat(self.as_fd(), ".", ITSELF, Mode::empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const MODE: Mode = Mode::from_bits_truncate(0o755);

    fn make(root: &Root, path: &str, last: Node) -> Result<SFlag, Option<i32>> {
        let made = root.make(Path::new(path), last, MODE).map_err(|err| err.raw_os_error())?;
        Ok(file_type(fstat(made).expect("look at it").st_mode))
    }

    #[test]
    fn links_to_what_is_missing_lead_inside() {
        let dir = tempfile::tempdir().expect("make a directory");
        let root = Root::open(dir.path()).expect("open it");
        let link = |target: &str, name: &str| symlink(target, dir.path().join(name)).expect("make a link");
        fs::create_dir(dir.path().join("etc")).expect("make a directory");
        link("/tmp/foo/bar", "jump");
        link("/jump/baz/hosts", "etc/hosts");
        assert_eq!(make(&root, "/etc/hosts", Node::File), Ok(SFlag::S_IFREG));
        assert!(dir.path().join("tmp/foo/bar/baz/hosts").is_file());
        assert_eq!(make(&root, "/etc/hosts", Node::File), Ok(SFlag::S_IFREG));
        link("../../../../srv/x", "etc/relative");
        assert_eq!(make(&root, "etc/relative/y", Node::Directory), Ok(SFlag::S_IFDIR));
        assert!(dir.path().join("srv/x/y").is_dir());
        assert_eq!(make(&root, "/", Node::Directory), Ok(SFlag::S_IFDIR));
        assert_eq!(make(&root, "a/b", Node::Directory), Ok(SFlag::S_IFDIR));
    }

    #[test]
    fn what_cannot_be_made() {
        let dir = tempfile::tempdir().expect("make a directory");
        let place = dir.path().join("root");
        fs::create_dir(&place).expect("make a directory");
        let root = Root::open(&place).expect("open it");
        symlink("b/x", place.join("a")).expect("make a link");
        symlink("a/x", place.join("b")).expect("make a link");
        fs::write(place.join("file"), "").expect("make a file");
        assert_eq!(make(&root, "a", Node::Directory), Err(Some(libc::ELOOP)));
        assert_eq!(make(&root, "file/x", Node::File), Err(Some(libc::ENOTDIR)));
        assert_eq!(make(&root, "new/../../x", Node::Directory), Err(Some(libc::EINVAL)));
        assert!(!dir.path().join("x").exists());
    }
}
