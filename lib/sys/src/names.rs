//! Names in the UTS namespace.

use std::io;

/// Sets the NIS domain name.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN` in the namespace, `EINVAL` for more than 64 bytes.
pub fn set_domain(name: &str) -> io::Result<()> {
    // SAFETY: the kernel reads `len` bytes of a string that outlives the call; it needs no NUL.
    if unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
