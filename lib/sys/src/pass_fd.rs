//! Descriptors sent over Unix sockets (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Sends `bytes` (at least one) with `fd` attached.
///
/// # Errors
/// Whatever `sendmsg(2)` says; a socket closed at the other end is `EPIPE`, never a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [fd.as_raw_fd()];
    let control = [ControlMessage::ScmRights(&fds)];
    let socket = socket.as_fd().as_raw_fd();
    sendmsg::<()>(socket, &[IoSlice::new(bytes)], &control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives into `bytes`; returns the length and the first descriptor that came along, if any.
///
/// # Errors
/// Whatever `recvmsg(2)` says.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = cmsg_space!([RawFd; 4]);
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
    Ok((message.bytes, received.into_iter().next()))
}
