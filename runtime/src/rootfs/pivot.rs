//! Making the container's root the root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::options::Propagation;
use super::propagation;

/// Enters the root behind `root` and lets go of the host's tree. Returns the new root.
///
/// # Errors
/// `pivot_root(2)` refuses a root that is on the initial ramdisk: see [`move_over`].
pub fn enter(root: impl AsFd) -> Result<OwnedFd> {
    leave_chroot();
    // Opened before: after the pivot "." is the new root, and what the container asked to share would be undone.
    let old = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open the old root")?;
    fchdir(root).context("enter the root file system")?;
    sys::mount::pivot_here().context("pivot_root")?;
    // The old root is on top now. Unmounting it must not reach the host.
    let slave = Propagation { kind: libc::MS_SLAVE, recursive: true };
    propagation::set(old.as_fd(), slave).context("cut the old root off")?;
    sys::mount::detach_here().context("unmount the old root")?;
    chdir("/").context("enter the new root")?;
    new_root()
}

/// Where the runtime runs in a chroot, `pivot_root` changes what is mounted there and the namespace's own root stays
/// the host's: it is what `exec` would enter. Joining the namespace that we are in takes us to that root first.
fn leave_chroot() {
    // Refused without the rights over the namespace, which nobody has in a chroot of somebody else.
    let _ = sys::pidfd::open(nix::unistd::getpid().as_raw())
        .and_then(|own| sys::namespace::join(own.as_fd(), libc::CLONE_NEWNS));
}

/// The way of `--no-pivot`: the root is moved over `/`, the host's tree stays mounted below it.
///
/// # Errors
/// Whatever the kernel says.
pub fn move_over(root: impl AsFd) -> Result<OwnedFd> {
    fchdir(&root).context("enter the root file system")?;
    let host = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open the host's root")?;
    sys::mount::attach(root.as_fd(), host.as_fd()).context("move the root file system over /")?;
    chroot(Path::new(".")).context("chroot")?;
    chdir("/").context("enter the new root")?;
    new_root()
}

fn new_root() -> Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open the new root")
}
