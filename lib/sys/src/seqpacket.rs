//! Unix sockets of type `SOCK_SEQPACKET` (unix(7)): connections that keep message boundaries. Sockets are named by a
//! directory descriptor and a file name, so that the 108 bytes of `sun_path` never limit where they live.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind, connect as nix_connect,
    listen as nix_listen, recv, send as nix_send, socket, socketpair,
};
use nix::sys::stat::Mode;

/// Listens on `name` in the directory `dir`, without blocking; a socket left there is replaced.
///
/// # Errors
/// Whatever `bind(2)` and `listen(2)` say.
pub fn listen(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(dir.join(name));
    let (_dir, path) = short(dir, name)?;
    let fd = new(SockFlag::SOCK_NONBLOCK)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
    nix_listen(&fd, Backlog::MAXCONN)?;
    Ok(fd)
}

/// Connects to `name` in the directory `dir`.
///
/// # Errors
/// `ENOENT` or `ECONNREFUSED` where nobody listens.
pub fn connect(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let (_dir, path) = short(dir, name)?;
    let fd = new(SockFlag::empty())?;
    loop {
        match nix_connect(fd.as_raw_fd(), &UnixAddr::new(&path)?) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    }
    Ok(fd)
}

/// Takes the next connection, without blocking on it later; `None` where nobody waits.
///
/// # Errors
/// Whatever `accept4(2)` says.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match accept4(listener.as_fd().as_raw_fd(), flags) {
        // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNABORTED) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Two connected ends.
///
/// # Errors
/// Whatever `socketpair(2)` says.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends one message; a closed other end is `EPIPE`, never a signal.
///
/// # Errors
/// `EAGAIN` where the socket does not block and its buffer is full.
pub fn send(fd: impl AsFd, message: &[u8]) -> io::Result<()> {
    loop {
        match nix_send(fd.as_fd().as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EINTR) => {}
            other => return other.map(drop).map_err(Into::into),
        }
    }
}

/// Receives one message into `buffer`; 0 bytes is the end.
///
/// # Errors
/// `EAGAIN` where the socket does not block and nothing is there.
pub fn receive(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(fd.as_fd().as_raw_fd(), buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            // The other end closed with messages of ours unread: to the reader that is the end.
            Err(Errno::ECONNRESET) => return Ok(0),
            other => return other.map_err(Into::into),
        }
    }
}

fn new(flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags | SockFlag::SOCK_CLOEXEC, None)?)
}

/// A path through /proc that is short whatever the directory's own is; good while the descriptor is open.
fn short(dir: &Path, name: &str) -> io::Result<(OwnedFd, PathBuf)> {
    let fd = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", fd.as_raw_fd()));
    Ok((fd, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_bounds_and_paths_may_be_long() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let listener = listen(&deep, "s").unwrap();
        assert!(accept(&listener).unwrap().is_none());
        let client = connect(&deep, "s").unwrap();
        let server = accept(&listener).unwrap().unwrap();
        send(&client, b"ab").unwrap();
        send(&client, b"c").unwrap();
        let mut buffer = [0; 9];
        assert_eq!((receive(&server, &mut buffer).unwrap(), &buffer[..2]), (2, &b"ab"[..]));
        assert_eq!(receive(&server, &mut buffer).unwrap(), 1);
        drop(client);
        assert_eq!(receive(&server, &mut buffer).unwrap(), 0);
        assert!(send(&server, b"x").is_err());
    }
}
