//! Joining and leaving namespaces: `setns(2)`, `unshare(2)`; whether we are in a user namespace.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Joins the namespace of a `/proc/PID/ns/…` descriptor, or with a pidfd those namespaces of a process that `flags`
/// (`CLONE_NEW…`) names.
///
/// # Errors
/// `EPERM` without the capability, `EINVAL` for the wrong kind of namespace.
pub fn join(fd: BorrowedFd<'_>, flags: i32) -> io::Result<()> {
    // SAFETY: passes integers only; the caller is single-threaded where the kernel asks for it, else it says EINVAL.
    if unsafe { libc::setns(fd.as_raw_fd(), flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves this process into new namespaces (`CLONE_NEW…`).
///
/// # Errors
/// `EPERM` without the capability, `ENOSPC` over the limit of namespaces.
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: passes integers only.
    if unsafe { libc::unshare(flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this process is in a user namespace other than the machine's first, which alone maps every id to itself. Its
/// root has no rights over what belongs to the machine.
#[must_use]
pub fn in_user_namespace() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return false };
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}
