//! The root of a container that shares the runtime's mount namespace, as the specification has it where none is listed.
//!
//! What it mounts is the host's then. All of it lies below one copy of its root file system, mounted over the original,
//! so that one unmount takes it away; and `chroot(2)`, which confines nobody who is privileged, stands for the pivot.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::options::Propagation;
use super::propagation;

/// The copy, not mounted anywhere yet, and the id of its mount, by which the other functions know it.
///
/// # Errors
/// The runtime may not mount.
pub fn prepare(rootfs: &Path) -> Result<(OwnedFd, u64)> {
    let copy = || -> io::Result<(OwnedFd, u64)> {
        let tree = sys::mount::copy_tree(AT_FDCWD, rootfs, true, false)?;
        // What is mounted in it must not appear in the original as well.
        propagation::set(tree.as_fd(), Propagation { kind: libc::MS_PRIVATE, recursive: true })?;
        let id = sys::mount::id(&tree)?;
        Ok((tree, id))
    };
    copy().with_context(|| format!("mount root file system {}", rootfs.display()))
}

/// Mounts the copy over the original.
///
/// # Errors
/// Whatever `move_mount(2)` says.
pub fn attach(tree: &OwnedFd, rootfs: &Path) -> Result<()> {
    let place = directory(rootfs).map_err(io::Error::from);
    place
        .and_then(|place| sys::mount::attach(tree.as_fd(), place.as_fd()))
        .with_context(|| format!("mount root file system {}", rootfs.display()))
}

/// Makes what `root` refers to this process's root.
///
/// # Errors
/// Whatever `chroot(2)` says.
pub fn enter(root: impl AsFd) -> Result<()> {
    fchdir(root).context("enter the root file system")?;
    chroot(Path::new(".")).context("chroot")?;
    chdir("/").context("enter the new root")
}

/// Enters the root of a running container.
///
/// # Errors
/// A fault of kind `WrongState` where something else is mounted there by now.
pub fn enter_again(rootfs: &Path, id: u64) -> Result<()> {
    let root = directory(rootfs).with_context(|| format!("open {}", rootfs.display()))?;
    if sys::mount::id(&root).context("look at the container's root")? != id {
        fault!(WrongState, "{} is not the container's root any more", rootfs.display());
    }
    enter(root)
}

/// Unmounts the copy with all that is mounted below it; nothing where that is done.
///
/// # Errors
/// Whatever `umount2(2)` says.
pub fn undo(rootfs: &Path, id: u64) -> Result<()> {
    let context = || format!("unmount root file system {}", rootfs.display());
    let root = match directory(rootfs) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        other => other.with_context(context)?,
    };
    if sys::mount::id(&root).with_context(context)? != id {
        return Ok(());
    }
    sys::mount::detach(root).with_context(context)
}

fn directory(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}
