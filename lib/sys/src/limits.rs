//! Resource limits of a process: `prlimit(2)`.

use std::io;

/// Sets limit `number` of process `pid`; `u64::MAX` is no limit.
///
/// # Errors
/// `EPERM` where the hard limit would rise without `CAP_SYS_RESOURCE`, `EINVAL` for a soft one over the hard one.
pub fn set(pid: i32, number: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: passes a struct that outlives the call, and a null pointer where the old limit would go.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            number,
            &raw const limit,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
