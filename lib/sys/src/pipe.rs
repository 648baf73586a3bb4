//! Pipes (pipe(7)), and what is read like them.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

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

/// Reads and writes on `fd`'s open file give `EAGAIN` instead of waiting (O_NONBLOCK).
///
/// # Errors
/// Whatever `fcntl(2)` says.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    #[test]
    fn counts_what_is_unread() {
        let (read, mut write) = std::io::pipe().unwrap();
        assert_eq!(super::length(read.as_fd()).unwrap(), 0);
        write.write_all(b"abc").unwrap();
        assert_eq!(super::length(read.as_fd()).unwrap(), 3);
    }

    #[test]
    fn does_not_wait_for_what_is_not_there() {
        let (mut read, _write) = std::io::pipe().unwrap();
        super::set_nonblocking(&read).unwrap();
        assert_eq!(read.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}
