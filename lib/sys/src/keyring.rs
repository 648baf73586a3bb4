//! Session keyrings (keyctl(2)).

use std::ffi::CString;
use std::io;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Leaves the caller's session keyring for a new one of this name.
///
/// # Errors
/// `ENOSYS` where the kernel has no keys, `EDQUOT` over the user's quota.
pub fn join_new_session(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: passes a NUL-terminated string that outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
