//! A switch of netlink sockets (netlink(7)) that nix does not know.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Whether the kernel takes what a dump's request says literally, and so lists only the addresses of the link that it
/// names (`NETLINK_GET_STRICT_CHK`, Linux 4.20).
///
/// # Errors
/// `ENOPROTOOPT` from an older kernel.
pub fn set_strict(socket: BorrowedFd<'_>, strict: bool) -> io::Result<()> {
    let value = libc::c_int::from(strict);
    let size = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the value outlives the call, which copies it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_GET_STRICT_CHK,
            (&raw const value).cast(),
            size,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
