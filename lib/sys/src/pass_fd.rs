//! Descriptors sent over Unix sockets (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The most descriptors that [`receive_all`] takes in one message.
const MOST: usize = 32;

/// Sends `bytes` (at least one) with `fd` attached.
///
/// # Errors
/// Whatever `sendmsg(2)` says; a socket closed at the other end is `EPIPE`, never a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    send_all(socket, bytes, &[fd])
}

/// Sends `bytes` (at least one) with all of `fds` attached, if any.
///
/// # Errors
/// As [`send`]; `EINVAL` for more than [`receive_all`] takes.
pub fn send_all(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if fds.len() > MOST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let socket = socket.as_fd().as_raw_fd();
    sendmsg::<()>(socket, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives into `bytes`; returns the length and the first descriptor that came along, if any.
///
/// # Errors
/// Whatever `recvmsg(2)` says.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let (length, fds) = receive_all(socket, bytes)?;
    Ok((length, fds.into_iter().next()))
}

/// Receives into `bytes`; returns the length and the descriptors that came along, all of one [`send_all`].
///
/// # Errors
/// Whatever `recvmsg(2)` says.
pub fn receive_all(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; MOST]);
    let mut slices = [IoSliceMut::new(bytes)];
    let socket = socket.as_fd().as_raw_fd();
    let message = loop {
        match recvmsg::<()>(socket, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel just installed these descriptors for us; each gets exactly one owner.
            received.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, received))
}
