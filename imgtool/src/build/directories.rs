//! Directories that an instruction makes on its way: below links that lead nowhere yet too, as BuildKit does.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, fchmod, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};
use sys::path::Root;

use crate::layer::tree;

/// As the kernel has it.
pub(super) const MOST_LINKS: u32 = 40;

/// Who owns new directories, and since when they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dress {
    /// User and group.
    pub owner: (u32, u32),
    /// Time, in seconds since 1970; now where `None`.
    pub time: Option<i64>,
}

/// Opens the directory `path` of a rootfs; what is missing is made with mode 0755. Says whether the last one is new.
///
/// # Errors
/// Something that is no directory is in the way.
pub fn make(root: &Root, path: &Path, dress: Dress) -> Result<(OwnedFd, bool)> {
    let mut links = 0;
    make_below(root, path, dress, &mut links)
}

fn make_below(root: &Root, path: &Path, dress: Dress, links: &mut u32) -> Result<(OwnedFd, bool)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    match root.open_in(path, flags, Mode::empty()) {
        Ok(fd) => return Ok((fd, false)),
        Err(err) if err.raw_os_error() == Some(nix::libc::ENOENT) => {}
        Err(err) if err.raw_os_error() == Some(nix::libc::ENOTDIR) => {
            bail!("cannot copy to non-directory: {}", path.display())
        }
        Err(err) => return Err(err).with_context(|| format!("open {}", path.display())),
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("there is no directory {}", path.display())
    };
    let (parent, _) = make_below(root, above, dress, links)?;
    match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            // Nothing opens under a name that is taken: a link to nowhere, whose end is made.
            let target = match readlinkat(&parent, name) {
                Ok(target) => PathBuf::from(target),
                Err(_) => bail!("cannot copy to non-directory: {}", path.display()),
            };
            *links += 1;
            if *links > MOST_LINKS {
                bail!("too many links at {}", path.display());
            }
            return make_below(root, &plain(above, &target), dress, links);
        }
        Err(err) => return Err(err).with_context(|| format!("make {}", path.display())),
    }
    let made = tree::open_name(parent.as_fd(), name)?;
    let made = nix::fcntl::openat(&made, ".", flags | OFlag::O_CLOEXEC, Mode::empty())?;
    fchmod(&made, Mode::from_bits_truncate(0o755))?;
    let (uid, gid) = dress.owner;
    fchown(&made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context("chown")?;
    if let Some(now) = dress.time {
        futimens(&made, &TimeSpec::UTIME_OMIT, &TimeSpec::new(now, 0))?;
    }
    Ok((made, true))
}

/// Where a link in `above` leads, without `..`: what is to be made has none.
fn plain(above: &Path, target: &Path) -> PathBuf {
    let joined = above.join(target);
    let clean = tree::clean(std::os::unix::ffi::OsStrExt::as_bytes(joined.as_os_str())).unwrap_or_default();
    Path::new("/").join(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_dangling_link_is_made_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        std::os::unix::fs::symlink("../../target", dir.path().join("link")).unwrap();
        std::os::unix::fs::symlink("loop", dir.path().join("loop")).unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let owner = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let dress = Dress { owner, time: Some(7) };
        assert!(make(&root, Path::new("/link/a/b"), dress).unwrap().1);
        assert!(!make(&root, Path::new("/target/a"), dress).unwrap().1);
        assert!(dir.path().join("target/a/b").is_dir());
        for bad in ["/loop/x", "/file/x", "/file"] {
            assert!(make(&root, Path::new(bad), dress).is_err(), "{bad}");
        }
    }
}
