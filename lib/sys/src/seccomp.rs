//! System call filters: `seccomp(2)`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

/// One instruction of a classic BPF program, as the kernel reads it (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip where a comparison holds.
    pub jt: u8,
    /// Instructions to skip where it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// `SECCOMP_FILTER_FLAG_TSYNC`: the filter is for all threads of the process.
pub const TSYNC: u32 = 1 << 0;
/// `SECCOMP_FILTER_FLAG_LOG`: log all actions but ALLOW.
pub const LOG: u32 = 1 << 1;
/// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: leave the speculative store bypass mitigation off.
pub const SPEC_ALLOW: u32 = 1 << 2;
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: [`install`] returns the descriptor of the notifications.
pub const NEW_LISTENER: u32 = 1 << 3;
/// `SECCOMP_FILTER_FLAG_TSYNC_ESRCH`: lets `TSYNC` and `NEW_LISTENER` be combined.
pub const TSYNC_ESRCH: u32 = 1 << 4;
/// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: a notified call waits killable only once the agent has seen it.
pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

pub(crate) const SET_MODE_FILTER: libc::c_uint = 1;
const GET_ACTION_AVAIL: libc::c_long = 2;

/// `struct sock_fprog`.
#[repr(C)]
pub(crate) struct Program {
    len: libc::c_ushort,
    filter: *const Instruction,
}

/// Installs a filter on the calling thread. Never sets `no_new_privs`: without it `CAP_SYS_ADMIN` is needed.
///
/// Returns the notification descriptor (close-on-exec) where `flags` hold [`NEW_LISTENER`].
///
/// # Errors
/// `EINVAL` for a program the kernel refuses (empty, longer than 4096 instructions) or an unknown flag, `EACCES`
/// without `no_new_privs` and `CAP_SYS_ADMIN`, `EBUSY` where a listener exists already.
pub fn install(program: &[Instruction], flags: u32) -> io::Result<Option<OwnedFd>> {
    let program = self::program(program)?;
    // SAFETY: `program` points at `len` instructions that live through the call; the kernel copies them.
    let rc = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, ptr::from_ref(&program)) };
    let fd = i32::try_from(rc).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & NEW_LISTENER == 0 {
        return if fd == 0 { Ok(None) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    }
    // SAFETY: with NEW_LISTENER a non-negative result is a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// What the kernel reads of a program, which is not to be moved before.
pub(crate) fn program(code: &[Instruction]) -> io::Result<Program> {
    let len = u16::try_from(code.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(Program { len, filter: code.as_ptr() })
}

/// Whether this kernel knows a filter flag. Nothing is installed.
#[must_use]
pub fn knows_flag(flag: u32) -> bool {
    // Refused alone, and TSYNC with it only beside TSYNC_ESRCH.
    let flags = if flag == WAIT_KILLABLE_RECV { flag | NEW_LISTENER } else { flag };
    // SAFETY: a null program makes the call fail: EFAULT after the flags were accepted, EINVAL before.
    let rc = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, ptr::null::<Program>()) };
    rc < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Whether this kernel knows an action (`SECCOMP_RET_…`).
#[must_use]
pub fn knows_action(action: u32) -> bool {
    // SAFETY: the kernel reads four bytes from a live integer.
    let rc = unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, ptr::from_ref(&action)) };
    rc == 0
}
