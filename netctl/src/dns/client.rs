//! A client's TCP connection: queries in, answers out, each behind its length (RFC 1035 section 4.2.2).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(10);

/// One connection. Never blocks.
#[derive(Debug)]
pub struct Stream {
    /// The socket, non-blocking.
    pub socket: TcpStream,
    /// The client's address.
    pub peer: IpAddr,
    input: Vec<u8>,
    output: Vec<u8>,
    deadline: Instant,
    ended: bool,
}

impl Stream {
    /// Takes over a connected socket; `first` is to be sent at once.
    pub fn new(socket: TcpStream, peer: IpAddr, first: Option<&[u8]>) -> Self {
        let deadline = Instant::now() + IDLE;
        let mut stream = Self { socket, peer, input: Vec::new(), output: Vec::new(), deadline, ended: false };
        if let Some(message) = first {
            stream.send(message);
        }
        stream
    }

    /// Reads what is there and returns the complete messages.
    pub fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 4096];
        match self.socket.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                self.input.extend_from_slice(&buffer[..length]);
                self.deadline = Instant::now() + IDLE;
            }
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.ended = true,
        }
        let mut messages = Vec::new();
        while let Some(length) = self.input.get(..2) {
            let end = 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            let Some(message) = self.input.get(2..end) else { break };
            messages.push(message.to_vec());
            self.input.drain(..end);
        }
        messages
    }

    /// Queues a message and sends as much as goes.
    pub fn send(&mut self, message: &[u8]) {
        let Ok(length) = u16::try_from(message.len()) else { return };
        // A client that asks and never reads must not fill our memory.
        if self.output.len() > 256 * 1024 {
            self.ended = true;
            return;
        }
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(message);
    }

    /// Sends what is queued.
    pub fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(length) if length > 0 => drop(self.output.drain(..length)),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) if err.kind() == ErrorKind::WouldBlock => return,
                _ => {
                    self.ended = true;
                    return;
                }
            }
        }
    }

    /// Whether bytes wait for room.
    pub fn wants_to_write(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether to forget it: closed, broken or idle.
    pub fn is_over(&self) -> bool {
        self.ended || Instant::now() >= self.deadline
    }
}
