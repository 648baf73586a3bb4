//! One ttrpc connection, ours to containerd or containerd's to us: frames in, frames out, never waiting.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::frame::{self, Next, Reader};

/// A client that takes no answers for this many bytes gets no more of its questions read.
const BEHIND: usize = 1 << 20;

pub struct Wire {
    stream: UnixStream,
    token: u64,
    input: Reader,
    output: Vec<u8>,
    watched: EpollFlags,
}

impl Wire {
    /// Takes a connection over; events come under `token`.
    pub fn new(stream: UnixStream, epoll: &Epoll, token: u64) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        let (input, output) = (Reader::default(), Vec::new());
        Ok(Self { stream, token, input, output, watched: EpollFlags::EPOLLIN })
    }

    /// Reads what is there; false once the other side has gone.
    pub fn fill(&mut self) -> bool {
        let mut buffer = [0; 4 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    self.input.push(&buffer[..length]);
                    if length < buffer.len() {
                        return true;
                    }
                }
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return err.kind() == ErrorKind::WouldBlock,
            }
        }
    }

    /// The next frame that has come.
    pub fn next(&mut self) -> Next {
        self.input.next()
    }

    /// Queues a frame.
    pub fn send(&mut self, stream: u32, kind: u8, body: &[u8]) {
        frame::write(&mut self.output, stream, kind, body);
    }

    /// Writes what the socket takes; false once the other side has gone.
    pub fn flush(&mut self, epoll: &Epoll) -> bool {
        let mut written = 0;
        let alive = loop {
            if written == self.output.len() {
                break true;
            }
            match self.stream.write(&self.output[written..]) {
                Ok(length) => written += length,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => break err.kind() == ErrorKind::WouldBlock,
            }
        };
        self.output.drain(..written);
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        self.watch(epoll);
        alive
    }

    /// Whether everything queued has been taken.
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    fn watch(&mut self, epoll: &Epoll) {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLOUT, !self.output.is_empty());
        flags.set(EpollFlags::EPOLLIN, self.output.len() < BEHIND);
        if flags != self.watched {
            self.watched = flags;
            let _ = epoll.modify(&self.stream, &mut EpollEvent::new(flags, self.token));
        }
    }
}
