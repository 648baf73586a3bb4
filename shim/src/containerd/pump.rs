//! Bytes from a payload to whoever reads its fifo, and back: moved by the kernel from pipe to pipe (splice(2)), read and
//! written only where a terminal or a file is at one end.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::{read, write};

/// Bytes moved in one go.
const PIECE: usize = 64 << 10;
/// Goes until somebody else has their turn.
const TURNS: usize = 16;

pub struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    /// The target's other end, so that clients may come and go.
    reader: Option<File>,
    token: u64,
    splice: bool,
    /// Read and not yet written.
    left: Vec<u8>,
    /// The target is full: what is watched is the target.
    full: bool,
}

impl Pump {
    /// Begins; events come under `token` and `token + 1`. `splice` where both ends are pipes.
    pub fn start(
        epoll: &Epoll,
        token: u64,
        (from, to): (OwnedFd, OwnedFd),
        splice: bool,
    ) -> std::io::Result<Self> {
        sys::pipe::set_nonblocking(&from)?;
        sys::pipe::set_nonblocking(&to)?;
        epoll.add(&from, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        Ok(Self { from, to, reader: None, token, splice, left: Vec::new(), full: false })
    }

    /// Holds the target's other end open.
    pub fn keep(&mut self, reader: File) {
        self.reader = Some(reader);
    }

    /// From now on the target may end when its last reader goes.
    pub fn let_go(&mut self) {
        self.reader = None;
    }

    /// Ends it. What it watched may stay open elsewhere, as a terminal does until its process is deleted, and would
    /// be reported as hung up for ever.
    pub fn end(self, epoll: &Epoll) {
        let _ = epoll.delete(if self.full { &self.to } else { &self.from });
    }

    /// Moves what can be moved now; false at the end, when it is to be ended.
    pub fn go_on(&mut self, epoll: &Epoll) -> bool {
        let mut moved = false;
        for _ in 0..TURNS {
            match self.turn() {
                Ok(true) => moved = true,
                Ok(false) | Err(Errno::EIO) => return false,
                Err(Errno::EINTR) => {}
                Err(Errno::EINVAL) if self.splice => self.splice = false,
                Err(Errno::EAGAIN) => {
                    // Nothing to read, or no room? What has just been said to be ready is not the reason.
                    let full = if self.splice { !moved && !self.full } else { !self.left.is_empty() };
                    return self.watch(epoll, full);
                }
                Err(_) => return false,
            }
        }
        self.watch(epoll, false)
    }

    /// Whether something was moved; `Ok(false)` at the end.
    fn turn(&mut self) -> nix::Result<bool> {
        if !self.left.is_empty() {
            let length = write(&self.to, &self.left)?;
            self.left.drain(..length);
            if self.left.is_empty() {
                self.left = Vec::new();
            }
            return Ok(true);
        }
        if self.splice {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
            return Ok(splice(&self.from, None, &self.to, None, PIECE, flags)? > 0);
        }
        let mut buffer = [0; 8 << 10];
        let length = read(&self.from, &mut buffer)?;
        let mut bytes = &buffer[..length];
        while !bytes.is_empty() {
            match write(&self.to, bytes) {
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    self.left = bytes.to_vec();
                    return Err(Errno::EAGAIN);
                }
                Err(err) => return Err(err),
            }
        }
        Ok(length > 0)
    }

    fn watch(&mut self, epoll: &Epoll, full: bool) -> bool {
        if full == self.full {
            return true;
        }
        self.full = full;
        // Removed and added: an end that has hung up is reported whatever is asked for.
        let done = if full {
            epoll
                .delete(&self.from)
                .and_then(|()| epoll.add(&self.to, EpollEvent::new(EpollFlags::EPOLLOUT, self.token + 1)))
        } else {
            epoll
                .delete(&self.to)
                .and_then(|()| epoll.add(&self.from, EpollEvent::new(EpollFlags::EPOLLIN, self.token)))
        };
        done.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use nix::fcntl::OFlag;
    use nix::sys::epoll::EpollCreateFlags;
    use nix::unistd::pipe2;

    use super::*;

    fn moved(splice: bool) {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let (from, source) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (sink, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut pump = Pump::start(&epoll, 4, (from, to), splice).unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        let written = bytes.clone();
        let writer = std::thread::spawn(move || File::from(source).write_all(&written).unwrap());
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            File::from(sink).read_to_end(&mut read).unwrap();
            read
        });
        let mut events = [EpollEvent::empty(); 4];
        let mut goes_on = true;
        while goes_on {
            if epoll.wait(&mut events, 60_000_u16).unwrap() > 0 {
                goes_on = pump.go_on(&epoll);
            }
        }
        drop(pump);
        writer.join().unwrap();
        assert!(reader.join().unwrap() == bytes);
    }

    #[test]
    fn an_end_that_others_hold_is_no_longer_watched() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let (from, source) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let (_sink, to) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let _elsewhere = from.try_clone().unwrap();
        let mut pump = Pump::start(&epoll, 4, (from, to), true).unwrap();
        drop(source);
        let mut events = [EpollEvent::empty(); 4];
        assert_eq!(epoll.wait(&mut events, 60_000_u16), Ok(1));
        assert!(!pump.go_on(&epoll));
        pump.end(&epoll);
        assert_eq!(epoll.wait(&mut events, 0_u8), Ok(0));
    }

    #[test]
    fn every_byte_arrives_through_full_pipes() {
        moved(true);
        moved(false);
    }
}
