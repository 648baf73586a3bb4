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

/// The exit code (128+n for a signal) of an ended process that is not a child of ours: `PIDFD_GET_INFO`, Linux 6.15.
///
/// # Errors
/// `ENODATA` while its parent has not reaped it, `ENOTTY` on an older kernel.
pub fn exit_code(pidfd: impl AsFd) -> io::Result<i32> {
    /// `struct pidfd_info`, its first version (linux/pidfd.h).
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    // _IOWR(0xff, 11, struct pidfd_info)
    const PIDFD_GET_INFO: u32 = (3 << 30) | (64 << 16) | (0xff << 8) | 11;
    const _: () = assert!(size_of::<Info>() == 64);
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the request carries the structure's size, and `info` outlives the call.
    let rc = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    if info.mask & PIDFD_INFO_EXIT == 0 {
        return Err(io::Error::from_raw_os_error(libc::ENODATA));
    }
    let status = info.exit_code;
    Ok(if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) })
}
