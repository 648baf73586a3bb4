//! Making the container's root the root.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use sys::mount::Filesystem;

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

/// The way of `--no-pivot`: the root, which is mounted at `place`, is moved over `/`, the host's tree stays mounted below it.
///
/// # Errors
/// Whatever the kernel says.
pub fn move_over(root: impl AsFd, place: &Path) -> Result<OwnedFd> {
    hide_bare_mounts(place)?;
    fchdir(&root).context("enter the root file system")?;
    let host = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open the host's root")?;
    sys::mount::attach(root.as_fd(), host.as_fd()).context("move the root file system over /")?;
    chroot(Path::new(".")).context("chroot")?;
    chdir("/").context("enter the new root")?;
    new_root()
}

/// Detaches the host's procfs and sysfs, but for what is below `place`. They would stay in the mount namespace, and as long
/// as one there has nothing over it the kernel lets the container mount another in a user namespace, with nothing masked.
fn hide_bare_mounts(place: &Path) -> Result<()> {
    let list = fs::read_to_string("/proc/self/mountinfo").context("read the mounts")?;
    for at in list.lines().filter_map(bare_mount).filter(|at| !at.starts_with(place)) {
        let context = || format!("unmount {}", at.display());
        let Ok(mount) = open(&at, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) else {
            // Below one that has gone.
            continue;
        };
        let slave = Propagation { kind: libc::MS_SLAVE, recursive: true };
        propagation::set(mount.as_fd(), slave).with_context(context)?;
        match umount2(&at, MntFlags::MNT_DETACH) {
            // Locked, as in a user namespace: then something goes over it.
            Err(Errno::EINVAL | Errno::EPERM) => {
                let cover =
                    Filesystem::open("tmpfs").and_then(|tmpfs| tmpfs.mount(0)).with_context(context)?;
                sys::mount::attach(cover.as_fd(), mount.as_fd()).with_context(context)?;
            }
            other => other.with_context(context)?,
        }
    }
    Ok(())
}

/// Where a whole procfs or sysfs is mounted, from a line of mountinfo (proc_pid_mountinfo(5)).
#[must_use]
pub fn bare_mount(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, at) = (left.next()?, left.next()?);
    let is_whole = root == "/" && matches!(right.split(' ').next()?, "proc" | "sysfs");
    is_whole.then(|| unescape(at))
}

/// Blanks and the like stand there as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let (mut bytes, mut left) = (Vec::new(), text.as_bytes());
    while let Some((&byte, rest)) = left.split_first() {
        let octal = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(escaped) => {
                bytes.push(escaped);
                left = &rest[3..];
            }
            None => {
                bytes.push(byte);
                left = rest;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

fn new_root() -> Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open the new root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_mounts() {
        let at = |line| bare_mount(line).map(|at| at.display().to_string());
        assert_eq!(at("9 1 0:3 / /a\\040b\\134c rw shared:2 - proc proc rw"), Some("/a b\\c".to_owned()));
        assert_eq!(at("9 1 0:3 / /sys rw - sysfs sysfs rw"), Some("/sys".to_owned()));
        assert_eq!(at("9 1 0:3 /sys /x rw - proc proc rw"), None);
        assert_eq!(at("9 1 0:3 / / rw - ext4 /dev/vda rw"), None);
    }
}
