//! The payload's stdout and stderr: pipes with a name in the state directory, whose bytes are looked at first (tee(2))
//! and taken out only once the log has them. What a supervisor that is killed had not logged yet, its successor finds.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, pipe2, read};

use crate::log::lines::LONGEST;

/// A pipe that a fast payload fills gets this many bytes of room: fewer switches between it and the supervisor.
const LARGE: usize = 256 << 10;
/// So many bytes of it are looked at together: while they are logged the payload writes on behind them.
const LOOK: usize = 128 << 10;
/// A buffer shorter than this is kept for the next look.
const KEPT: usize = 4 << 10;
/// A pipe's smallest number of slots: fewer bytes than these cannot fill it, however they were written.
const SLOTS: usize = 16;
const PAGE: usize = 4096;

/// One of the two.
pub(super) struct Output {
    pipe: OwnedFd,
    /// So many bytes at its head were shown to clients already.
    seen: usize,
    /// The log does not take its next line yet.
    pub refused: bool,
    large: bool,
}

/// What was found in a pipe.
pub(super) struct Look {
    /// The head's bytes.
    pub bytes: Vec<u8>,
    /// From here on nobody has seen them.
    pub new: usize,
    /// Up to here they are lines, or parts of one that is too long.
    pub lines: usize,
}

impl Output {
    /// Makes the pipe `name`, empty; our end, and the payload's. That one can also be read: a payload that outlives its
    /// supervisor is not killed by SIGPIPE.
    pub fn make(live: &Path, name: &str) -> Result<(Self, File)> {
        let path = live.join(name);
        let _ = fs::remove_file(&path);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("make {}", path.display()))?;
        let theirs = File::options().read(true).write(true).open(&path);
        let theirs = theirs.with_context(|| format!("open {}", path.display()))?;
        Ok((Self::open(live, name)?, theirs))
    }

    /// Opens the pipe that another supervisor has made.
    pub fn open(live: &Path, name: &str) -> Result<Self> {
        let path = live.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let pipe = nix::fcntl::open(&path, flags, Mode::empty());
        let pipe = pipe.with_context(|| format!("open {}", path.display()))?;
        Ok(Self { pipe, seen: 0, refused: false, large: false })
    }

    /// Our end.
    pub fn fd(&self) -> &OwnedFd {
        &self.pipe
    }

    /// Whether more is in it than the `length` bytes that stay there on purpose.
    pub fn has_more(&self, length: usize) -> bool {
        sys::pipe::length(self.pipe.as_fd()).is_ok_and(|there| there > length)
    }

    /// Whether the payload could write nothing more, be it only for many tiny pieces.
    fn is_full(&self) -> bool {
        let path = format!("/proc/self/fd/{}", self.pipe.as_raw_fd());
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let Ok(write) = nix::fcntl::open(path.as_str(), flags, Mode::empty()) else { return true };
        let mut room = [PollFd::new(write.as_fd(), PollFlags::POLLOUT)];
        poll(&mut room, PollTimeout::ZERO) != Ok(1)
    }
}

/// A second pipe for looks, one for both outputs.
pub(super) struct Glass {
    read: OwnedFd,
    write: OwnedFd,
    /// Where what was taken goes.
    null: File,
    large: bool,
    buffer: Vec<u8>,
}

impl Glass {
    pub fn new() -> Result<Self> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
        let null = File::options().write(true).open("/dev/null").context("open /dev/null")?;
        Ok(Self { read, write, null, large: false, buffer: Vec::new() })
    }

    /// What is in `output`: `None` at its end, `EAGAIN` where it is empty. With `all` an unfinished line counts as one.
    pub fn look(&mut self, output: &mut Output, all: bool) -> nix::Result<Option<Look>> {
        let most = if output.large { LOOK } else { 64 << 10 };
        let length = tee(&output.pipe, &self.write, most, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        bytes.resize(length, 0);
        let mut done = 0;
        while done < length {
            match read(&self.read, &mut bytes[done..]) {
                Ok(0) => return Err(Errno::EPIPE),
                Ok(count) => done += count,
                Err(Errno::EINTR) => {}
                Err(err) => return Err(err),
            }
        }
        // Pieces that do not fit into the pages of the pipe fill it earlier.
        if length >= most / 2 && !output.large {
            self.enlarge(output);
        }
        let new = output.seen.min(length);
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        let rest = length - whole;
        // Behind whole lines the beginning of one stays. Without any, what comes behind it must not wait for ever.
        let stuck =
            whole == 0 && (new == length && output.has_more(length) || rest >= SLOTS && output.is_full());
        let lines = if all || stuck { length } else { length - rest % LONGEST };
        output.seen = length;
        Ok(Some(Look { bytes, new, lines }))
    }

    /// A payload that fills its pipe gets more room, and so do we. Where the kernel refuses, all stays as it is.
    fn enlarge(&mut self, output: &mut Output) {
        let size = FcntlArg::F_SETPIPE_SZ(i32::try_from(LARGE).unwrap_or(i32::MAX));
        self.large = self.large || fcntl(&self.write, size).is_ok();
        let size = FcntlArg::F_SETPIPE_SZ(i32::try_from(LARGE).unwrap_or(i32::MAX));
        output.large = self.large && fcntl(&output.pipe, size).is_ok();
    }

    /// Takes the first `length` bytes out for good. The first page by read(2), which lets a payload that waits for room go
    /// on at once, on our processor where there is no other (after a splice(2) it waits for its turn like everybody), the
    /// rest without copying it.
    pub fn take(&mut self, output: &mut Output, length: usize) {
        let (mut left, mut page) = (length, [0; PAGE]);
        while left > 0 {
            let taken = if left == length {
                read(&output.pipe, &mut page[..left.min(PAGE)])
            } else {
                splice(&output.pipe, None, &self.null, None, left, SpliceFFlags::SPLICE_F_NONBLOCK)
            };
            match taken {
                Ok(0) => break,
                Ok(count) => left -= count,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        output.seen = output.seen.saturating_sub(length);
    }

    /// Gives the memory for looks back.
    pub fn rest(&mut self) {
        self.buffer = Vec::new();
    }

    /// Gives a look's memory back: kept while it is small, or while a payload floods us.
    pub fn done(&mut self, look: Look) {
        if look.bytes.capacity() <= KEPT || look.bytes.len() >= LOOK / 4 {
            self.buffer = look.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const SMALL: usize = 64 << 10;

    #[test]
    fn the_beginning_of_a_line_stays_in_a_full_pipe_until_nothing_else_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let (mut output, mut theirs) = Output::make(dir.path(), "stdout").unwrap();
        fcntl(&theirs, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).unwrap();
        let lines = [&[b'x'; 99][..], b"\n"].concat().repeat(1000);
        assert_eq!(theirs.write(&lines).unwrap(), SMALL);
        let mut glass = Glass::new().unwrap();
        let look = glass.look(&mut output, false).unwrap().unwrap();
        assert_eq!((look.bytes.len(), look.lines, look.new), (SMALL, SMALL / 100 * 100, 0));
        glass.take(&mut output, look.lines);
        glass.done(look);
        assert!(output.has_more(0) && output.large, "it was full, and has more room now");
        let look = glass.look(&mut output, false).unwrap().unwrap();
        assert_eq!((look.bytes.len(), look.lines, look.new), (SMALL % 100, 0, SMALL % 100));
        glass.done(look);
        let look = glass.look(&mut output, true).unwrap().unwrap();
        assert_eq!(look.lines, SMALL % 100);
    }
}
