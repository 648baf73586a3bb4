//! Pipes (pipe(7)).

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How many bytes are in a pipe, unread (FIONREAD).
///
/// # Errors
/// It is no pipe.
pub fn length(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    let mut length: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, to `length`, which outlives the call.
    if unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD as _, &raw mut length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(length).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    #[test]
    fn counts_what_is_unread() {
        let (read, mut write) = std::io::pipe().unwrap();
        assert_eq!(super::length(read.as_fd()).unwrap(), 0);
        write.write_all(b"abc").unwrap();
        assert_eq!(super::length(read.as_fd()).unwrap(), 3);
    }
}
