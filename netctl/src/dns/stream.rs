//! DNS by TCP: messages with a length in front (RFC 1035 §4.2.2), on connections that are never waited for.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is at the other end.
#[derive(Debug)]
pub enum Peer {
    /// A container that asks.
    Client {
        /// Where it asks.
        place: u64,
        /// Who it is.
        address: IpAddr,
    },
    /// A server that we ask for a client's connection, and the servers still to try.
    Upstream { client: u64, message: Vec<u8>, servers: Vec<IpAddr> },
}

/// One connection.
#[derive(Debug)]
pub struct Stream {
    /// For the poll set.
    pub socket: TcpStream,
    /// Who is at the other end.
    pub peer: Peer,
    /// When it is closed for its silence.
    pub deadline: Instant,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Stream {
    /// Takes over an accepted or connecting socket.
    ///
    /// # Errors
    /// It cannot be made non-blocking.
    pub fn new(socket: TcpStream, peer: Peer, now: Instant) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, peer, deadline: now + PATIENCE, incoming: Vec::new(), outgoing: Vec::new() })
    }

    /// Starts to connect to a server; the socket becomes writable once that is done.
    ///
    /// # Errors
    /// There is no way to it.
    pub fn connect(server: IpAddr) -> io::Result<TcpStream> {
        let address = SocketAddr::new(server, 53);
        let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket: OwnedFd = socket(family, SockType::Stream, flags, None)?;
        match connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
            Err(err) => Err(err.into()),
        }
    }

    /// Reads what has come; `false` once the other end is done.
    ///
    /// # Errors
    /// The connection broke.
    pub fn receive(&mut self, now: Instant) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => {
                    self.incoming.extend(&buffer[..length]);
                    self.deadline = now + PATIENCE;
                    // One message is at most 64 KiB: this one sends without ever reading answers.
                    if self.incoming.len() > 1 << 17 {
                        return Err(ErrorKind::InvalidData.into());
                    }
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// The next whole message.
    pub fn next_message(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(super::wire::word(&self.incoming, 0)?);
        let message = self.incoming.get(2..2 + length)?.to_vec();
        self.incoming.drain(..2 + length);
        Some(message)
    }

    /// Puts a message in line to be sent.
    pub fn send(&mut self, message: &[u8]) {
        if let Ok(length) = u16::try_from(message.len()) {
            self.outgoing.extend(length.to_be_bytes());
            self.outgoing.extend(message);
        }
    }

    /// Sends what the socket takes; `true` once all is sent.
    ///
    /// # Errors
    /// The connection broke.
    pub fn flush(&mut self) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(false);
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(true)
    }
}
