//! Descriptors that whoever executed us left open, known by number only (`_OCI_SYNCPIPE=3`).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes descriptor `number` over: under another number, closed on exec; the old number is closed.
///
/// # Errors
/// `EBADF` where it is not open.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    let fd = duplicate(number)?;
    close(number);
    Ok(fd)
}

/// Another descriptor, closed on exec, for what `number` is open on; the program executed next still has `number`.
///
/// # Errors
/// `EBADF` where it is not open.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(2) with integers only; it fails where the number is not open.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The descriptor's flags (`FD_CLOEXEC`).
///
/// # Errors
/// `EBADF` where it is not open.
pub fn flags(number: RawFd) -> io::Result<i32> {
    // SAFETY: fcntl(2) with integers only.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 { Err(io::Error::last_os_error()) } else { Ok(flags) }
}

/// Closes an inherited descriptor that nothing in this process owns.
pub fn close(number: RawFd) {
    // SAFETY: the caller names a descriptor that came through execve(2), which no object of ours owns.
    unsafe { libc::close(number) };
}
