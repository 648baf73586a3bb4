//! Process handles that survive pid reuse: `pidfd_open(2)`, `pidfd_send_signal(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Opens a pidfd of a running (or not yet reaped) process.
///
/// # Errors
/// `ESRCH` where there is no such process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers; the returned descriptor is new and ours (O_CLOEXEC is implied).
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process behind a pidfd; signal 0 only checks that it can be signalled.
///
/// # Errors
/// `ESRCH` where the process has ended and been reaped.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: a null siginfo asks the kernel to fill one in as kill(2) does; no memory is passed.
    let rc = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
