//! The payload's stdin, stdout, stderr or terminal: to the log, and to whoever is attached.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contracts::container::Container;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::{pipe2, read, write};

use super::launch::output_pipe;
use super::{STDERR, STDIN, STDOUT, Supervisor};
use crate::attach::wire;
use crate::log::Stream;

/// Most bytes of stdin kept for a payload that does not read.
pub(super) const STDIN_LIMIT: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Streams {
    pub terminal: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Bytes for the payload's stdin that it has not taken yet.
    pub queue: VecDeque<u8>,
    /// Close stdin when the queue is empty.
    pub closing: bool,
    /// Output that the log would not take (a full disk); offered again at `retry_at`.
    pub refused: VecDeque<(Stream, Vec<u8>)>,
    /// Bytes in `refused`.
    refused_bytes: usize,
    pub retry_at: Option<Instant>,
    /// Not reading the payload's output: the log or the foreground is behind.
    pub held: bool,
}

impl Streams {
    /// Gives the runtime's command the payload's ends; the read end of stderr, for the runtime's own last words.
    pub fn prepare(&mut self, command: &mut Command, record: &Container) -> Result<Option<OwnedFd>> {
        self.reset();
        if record.config.tty {
            let (read, write) = output_pipe()?;
            set_nonblocking(&read)?;
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(write);
            return Ok(Some(read));
        }
        if record.config.open_stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
            set_nonblocking(&write)?;
            command.stdin(read);
            self.stdin = Some(write);
        } else {
            command.stdin(std::process::Stdio::null());
        }
        let (stdout, write) = output_pipe()?;
        command.stdout(write);
        let (stderr, write) = output_pipe()?;
        command.stderr(write);
        for fd in [&stdout, &stderr] {
            set_nonblocking(fd)?;
        }
        let words = stderr.try_clone()?;
        (self.stdout, self.stderr) = (Some(stdout), Some(stderr));
        Ok(Some(words))
    }

    /// Opens the other ends of a running payload's pipes. Its terminal's master end is gone with the supervisor that
    /// held it: such a payload has had its SIGHUP.
    pub fn adopt(&mut self, pid: i32, record: &Container) {
        if record.config.tty {
            return;
        }
        let open = |fd: u32| {
            let file = File::options().read(true).open(format!("/proc/{pid}/fd/{fd}")).ok()?;
            let fd = OwnedFd::from(file);
            set_nonblocking(&fd).ok()?;
            Some(fd)
        };
        (self.stdout, self.stderr) = (open(1), open(2));
    }

    /// Watches what there is to read.
    pub fn watch(&mut self, epoll: &Epoll) -> Result<()> {
        let input = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        if let Some(terminal) = &self.terminal {
            set_nonblocking(terminal)?;
            epoll.add(terminal, input(STDOUT)).context("watch the terminal")?;
        }
        if let Some(stdout) = &self.stdout {
            epoll.add(stdout, input(STDOUT)).context("watch stdout")?;
        }
        if let Some(stderr) = &self.stderr {
            epoll.add(stderr, input(STDERR)).context("watch stderr")?;
        }
        Ok(())
    }

    fn output(&self, first: bool) -> Option<BorrowedFd<'_>> {
        let fd = if first { self.terminal.as_ref().or(self.stdout.as_ref()) } else { self.stderr.as_ref() };
        fd.map(OwnedFd::as_fd)
    }

    fn close_output(&mut self, epoll: &Epoll, first: bool) {
        if let Some(fd) = self.output(first) {
            let _ = epoll.delete(fd);
        }
        if first {
            (self.terminal, self.stdout) = (None, None);
        } else {
            self.stderr = None;
        }
    }

    /// Closes everything at the payload's end.
    pub fn close(&mut self, epoll: &Epoll) {
        self.close_output(epoll, true);
        self.close_output(epoll, false);
        if let Some(stdin) = self.stdin.take() {
            let _ = epoll.delete(&stdin);
        }
        self.reset();
    }

    /// Nothing of the last run but the lines that its log would not take yet.
    fn reset(&mut self) {
        let (refused, refused_bytes, retry_at) =
            (std::mem::take(&mut self.refused), self.refused_bytes, self.retry_at);
        *self = Self { refused, refused_bytes, retry_at, ..Self::default() };
    }
}

impl Supervisor {
    /// Reads once from stdout (or the terminal) or stderr.
    pub(super) fn read_output(&mut self, first: bool) {
        self.read_some(first);
        self.hold_or_go_on();
    }

    /// Reads all that is there: the payload has ended and nothing more will come.
    pub(super) fn drain(&mut self) {
        while self.read_some(true) {}
        while self.read_some(false) {}
    }

    /// False at the end, or where nothing is there now.
    fn read_some(&mut self, first: bool) -> bool {
        let Some(fd) = self.streams.output(first) else { return false };
        let mut buffer = [0; 64 << 10];
        match read(fd, &mut buffer) {
            Err(Errno::EAGAIN) => false,
            Err(Errno::EINTR) => true,
            // EIO: the last process closed the terminal.
            Ok(0) | Err(_) => {
                self.streams.close_output(&self.epoll, first);
                false
            }
            Ok(length) => {
                self.take(if first { Stream::Stdout } else { Stream::Stderr }, &buffer[..length]);
                true
            }
        }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let kind = if stream == Stream::Stdout { wire::STDOUT } else { wire::STDERR };
        for chunk in bytes.chunks(wire::CHUNK) {
            self.show_attached(kind, chunk);
        }
        if self.streams.refused.is_empty() && self.log.write(stream, bytes).is_ok() {
            return;
        }
        self.streams.retry_at.get_or_insert(Instant::now() + Duration::from_secs(1));
        let room = self.log_buffer.is_none_or(|limit| self.streams.refused_bytes + bytes.len() <= limit);
        // As docker's ring: the first message always fits, the newest is the one that is lost.
        if room || self.streams.refused.is_empty() {
            self.streams.refused_bytes += bytes.len();
            self.streams.refused.push_back((stream, bytes.to_vec()));
        }
    }

    /// The log's receiver takes more.
    pub(super) fn log_ready(&mut self) {
        self.log.ready();
        if !self.streams.refused.is_empty() {
            self.retry_log();
        }
    }

    /// Whether lines are still on their way although the payload has ended. They have a minute: then nobody takes them.
    pub(super) fn has_last_lines(&mut self) -> bool {
        if self.streams.refused.is_empty() && !self.log.has_more() {
            return false;
        }
        let until = *self.lines_until.get_or_insert_with(|| Instant::now() + super::LAST_LINES);
        // Removed meanwhile: nobody will read them here. Looked at each second, while there are any.
        self.streams.retry_at.get_or_insert_with(|| Instant::now() + Duration::from_secs(1));
        Instant::now() < until && (self.log.watched().is_some() || self.store.dir(&self.record.id).exists())
    }

    /// Offers the log again what it would not take.
    pub(super) fn retry_log(&mut self) {
        self.streams.retry_at = None;
        while let Some((stream, bytes)) = self.streams.refused.front() {
            if self.log.write(*stream, bytes).is_err() {
                self.streams.retry_at = Some(Instant::now() + Duration::from_secs(1));
                break;
            }
            self.streams.refused_bytes -= bytes.len();
            self.streams.refused.pop_front();
        }
        self.hold_or_go_on();
    }

    /// While the log (but for `mode=non-blocking`) or the foreground is behind, the payload's output waits in its
    /// pipe: nothing is lost, and our memory stays small.
    pub(super) fn hold_or_go_on(&mut self) {
        let log_is_behind = self.log_buffer.is_none() && !self.streams.refused.is_empty();
        let hold = log_is_behind || self.clients.values().any(|client| client.holds_output());
        if hold == self.streams.held {
            return;
        }
        self.streams.held = hold;
        let flags = if hold { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        for (first, token) in [(true, STDOUT), (false, STDERR)] {
            if let Some(fd) = self.streams.output(first) {
                let _ = self.epoll.modify(fd, &mut EpollEvent::new(flags, token));
            }
        }
    }

    /// Takes a client's bytes for the payload.
    pub(super) fn feed_stdin(&mut self, bytes: &[u8]) {
        if self.streams.terminal.is_none() && self.streams.stdin.is_none() {
            return;
        }
        self.streams.queue.extend(bytes);
        self.write_stdin();
    }

    /// No more stdin. A terminal has no end of input but a typed one.
    pub(super) fn close_stdin(&mut self) {
        if self.streams.stdin.is_some() {
            self.streams.closing = true;
            self.write_stdin();
        }
    }

    /// Writes what the payload takes; watches for room where it takes less.
    pub(super) fn write_stdin(&mut self) {
        let streams = &mut self.streams;
        let Some(fd) = streams.terminal.as_ref().or(streams.stdin.as_ref()) else { return };
        let mut gone = false;
        while !streams.queue.is_empty() {
            let (bytes, _) = streams.queue.as_slices();
            match write(fd, bytes) {
                Ok(length) => drop(streams.queue.drain(..length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    gone = true;
                    break;
                }
            }
        }
        if gone {
            streams.queue.clear();
        }
        let wants = !streams.queue.is_empty();
        if streams.terminal.is_some() {
            let mut flags = if streams.held { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
            flags.set(EpollFlags::EPOLLOUT, wants);
            let _ = self.epoll.modify(fd, &mut EpollEvent::new(flags, STDOUT));
        } else {
            let _ = self.epoll.delete(fd);
            if wants {
                let _ = self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLOUT, STDIN));
            } else if streams.closing || gone {
                streams.stdin = None;
            }
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).context("read a descriptor's flags")?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).context("set a descriptor's flags")?;
    Ok(())
}
