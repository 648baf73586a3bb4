//! The payload's stdin, stdout, stderr or terminal: to the log, and to whoever is attached.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contracts::container::Container;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::{pipe2, read, write};

use super::launch::output_pipe;
use super::output::{Glass, Output};
use super::{STDERR, STDIN, STDOUT, Supervisor};
use crate::attach::wire;
use crate::log::Stream;

/// Most bytes of stdin kept for a payload that does not read.
pub(super) const STDIN_LIMIT: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Streams {
    pub terminal: Option<OwnedFd>,
    pub stdin: Option<OwnedFd>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    glass: Option<Glass>,
    /// Bytes for the payload's stdin that it has not taken yet.
    pub queue: VecDeque<u8>,
    /// Close stdin when the queue is empty.
    pub closing: bool,
    /// Output that the log would not take (a full disk) and that no pipe keeps; offered again at `retry_at`.
    pub refused: VecDeque<(Stream, Vec<u8>)>,
    /// Bytes in `refused`.
    refused_bytes: usize,
    pub retry_at: Option<Instant>,
    /// What the payload gets instead of pipes (log driver passthrough).
    given: Vec<OwnedFd>,
    /// Not reading the payload's output: the log or the foreground is behind.
    pub held: bool,
}

impl Streams {
    /// None yet; `given` is what a payload with log driver passthrough gets.
    pub fn given(given: Vec<OwnedFd>) -> Self {
        Self { given, ..Self::default() }
    }

    /// Gives the runtime's command the payload's ends; the read end of stderr, for the runtime's own last words.
    pub fn prepare(
        &mut self,
        command: &mut Command,
        live: &Path,
        record: &Container,
    ) -> Result<Option<OwnedFd>> {
        self.reset();
        if crate::log::is_passthrough(record) {
            return self.pass_through(command, record).map(|()| None);
        }
        if record.config.tty {
            let (read, write) = output_pipe()?;
            sys::pipe::set_nonblocking(&read).context("set a descriptor's flags")?;
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(write);
            return Ok(Some(read));
        }
        if record.config.open_stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
            sys::pipe::set_nonblocking(&write).context("set a descriptor's flags")?;
            command.stdin(read);
            self.stdin = Some(write);
        } else {
            command.stdin(std::process::Stdio::null());
        }
        let (stdout, write) = Output::make(live, "stdout")?;
        command.stdout(write);
        let (stderr, write) = Output::make(live, "stderr")?;
        command.stderr(write);
        let words = stderr.fd().try_clone()?;
        (self.stdout, self.stderr, self.glass) = (Some(stdout), Some(stderr), Some(Glass::new()?));
        Ok(Some(words))
    }

    /// Gives the payload the streams of whoever started it; they are kept only where there may be a next start, so that
    /// their reader sees their end.
    fn pass_through(&mut self, command: &mut Command, record: &Container) -> Result<()> {
        let null = std::process::Stdio::null;
        command.stdin(null()).stdout(null()).stderr(null());
        let again = record.host_config.restart_policy.name != "no"
            || record.health_on_failure == "restart"
            || record.health_more.startup.as_ref().is_some_and(|check| check.retries > 0);
        let given = std::mem::take(&mut self.given);
        if let [stdin, stdout, stderr] = &given[..] {
            command.stdin(stdin.try_clone()?).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
        }
        if again {
            self.given = given;
        }
        Ok(())
    }

    /// Opens the other ends of a running payload's pipes. Its terminal's master end is gone with the supervisor that
    /// held it: such a payload has had its SIGHUP.
    pub fn adopt(&mut self, live: &Path, record: &Container) -> Result<()> {
        if record.config.tty || crate::log::is_passthrough(record) {
            return Ok(());
        }
        (self.stdout, self.stderr) = (Output::open(live, "stdout").ok(), Output::open(live, "stderr").ok());
        self.glass = Some(Glass::new()?);
        Ok(())
    }

    /// Watches what there is to read.
    pub fn watch(&mut self, epoll: &Epoll) -> Result<()> {
        let input = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        if let Some(terminal) = &self.terminal {
            sys::pipe::set_nonblocking(terminal).context("set a descriptor's flags")?;
            epoll.add(terminal, input(STDOUT)).context("watch the terminal")?;
        }
        // At each write only: an unfinished line stays in its pipe.
        let each = |token| EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, token);
        if let Some(stdout) = &self.stdout {
            epoll.add(stdout.fd(), each(STDOUT)).context("watch stdout")?;
        }
        if let Some(stderr) = &self.stderr {
            epoll.add(stderr.fd(), each(STDERR)).context("watch stderr")?;
        }
        Ok(())
    }

    fn pipe(&mut self, first: bool) -> &mut Option<Output> {
        if first { &mut self.stdout } else { &mut self.stderr }
    }

    fn close_output(&mut self, epoll: &Epoll, first: bool) {
        if let Some(output) = self.pipe(first).take() {
            let _ = epoll.delete(output.fd());
        }
        if first && let Some(terminal) = self.terminal.take() {
            let _ = epoll.delete(terminal);
        }
    }

    /// Whether the log is behind with lines that wait in a pipe.
    fn pipe_waits(&self) -> bool {
        [&self.stdout, &self.stderr].into_iter().flatten().any(|output| output.refused)
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

    /// Gives back the memory for looks.
    pub fn rest(&mut self) {
        if let Some(glass) = &mut self.glass {
            glass.rest();
        }
    }

    /// Nothing of the last run but the lines that its log would not take yet, and what the next one gets.
    fn reset(&mut self) {
        let (refused, refused_bytes, retry_at) =
            (std::mem::take(&mut self.refused), self.refused_bytes, self.retry_at);
        let given = std::mem::take(&mut self.given);
        *self = Self { refused, refused_bytes, retry_at, given, ..Self::default() };
    }
}

impl Supervisor {
    /// Takes what stdout (or the terminal) or stderr has; at its end, all.
    pub(super) fn read_output(&mut self, first: bool, ended: bool) {
        if first && self.streams.terminal.is_some() {
            self.read_terminal();
        } else if ended {
            while self.look(first, true) {}
        } else if !self.streams.held && self.look(first, false) {
            // Others have their turn before the rest, which is told of once more.
            self.watch_pipe(first);
        }
        self.hold_or_go_on();
    }

    /// Reads all that is there: the payload has ended and nothing more will come.
    pub(super) fn drain(&mut self) {
        while self.read_terminal() {}
        while self.look(true, true) {}
        while self.look(false, true) {}
    }

    /// False at the end, or where nothing is there now.
    fn read_terminal(&mut self) -> bool {
        let Some(fd) = &self.streams.terminal else { return false };
        // A terminal gives no more at once.
        let mut buffer = [0; 4 << 10];
        match read(fd, &mut buffer) {
            Err(Errno::EAGAIN) => false,
            Err(Errno::EINTR) => true,
            // EIO: the last process closed the terminal.
            Ok(0) | Err(_) => {
                self.streams.close_output(&self.epoll, true);
                false
            }
            Ok(length) => {
                self.show(Stream::Stdout, &buffer[..length]);
                if !self.log_takes(Stream::Stdout, &buffer[..length]) {
                    self.keep(Stream::Stdout, &buffer[..length]);
                }
                true
            }
        }
    }

    /// Looks into a pipe once and takes out what the log takes; with `all` also what it does not take, and unfinished
    /// lines. Whether there is more.
    fn look(&mut self, first: bool, all: bool) -> bool {
        let Streams { stdout, stderr, glass: Some(glass), .. } = &mut self.streams else { return false };
        let Some(output) = (if first { stdout } else { stderr }) else { return false };
        let look = match glass.look(output, all) {
            Err(Errno::EAGAIN) => return false,
            Err(Errno::EINTR) => return true,
            Ok(None) | Err(_) => {
                self.streams.close_output(&self.epoll, first);
                return false;
            }
            Ok(Some(look)) => look,
        };
        let stream = if first { Stream::Stdout } else { Stream::Stderr };
        self.show(stream, &look.bytes[look.new..]);
        let lines = &look.bytes[..look.lines];
        let taken = lines.is_empty() || self.log_takes(stream, lines);
        if !taken && (all || self.log_buffer.is_some()) {
            self.keep(stream, lines);
        } else if !taken {
            self.streams.retry_at.get_or_insert(Instant::now() + Duration::from_secs(1));
        }
        let Streams { stdout, stderr, glass: Some(glass), .. } = &mut self.streams else { return false };
        let Some(output) = (if first { stdout } else { stderr }) else { return false };
        output.refused = !taken && !all && self.log_buffer.is_none();
        let refused = output.refused;
        if !refused {
            glass.take(output, look.lines);
        }
        let rest = look.bytes.len() - look.lines;
        glass.done(look);
        !refused && output.has_more(rest)
    }

    /// To everyone who watches.
    fn show(&mut self, stream: Stream, bytes: &[u8]) {
        let kind = if stream == Stream::Stdout { wire::STDOUT } else { wire::STDERR };
        for chunk in bytes.chunks(wire::CHUNK) {
            self.show_attached(kind, chunk);
        }
    }

    fn log_takes(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        self.streams.refused.is_empty() && self.log.write(stream, bytes).is_ok()
    }

    /// Keeps what the log did not take.
    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
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
        if !self.streams.refused.is_empty() || self.streams.pipe_waits() {
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
        for first in [true, false] {
            // What is left in a pipe is told of when it is watched again.
            if self.streams.pipe(first).as_ref().is_some_and(|output| output.refused) {
                self.look(first, false);
            }
        }
        self.hold_or_go_on();
    }

    /// While the log (but for `mode=non-blocking`) or the foreground is behind, the payload's output waits in its
    /// pipe: nothing is lost, and our memory stays small.
    pub(super) fn hold_or_go_on(&mut self) {
        let log_is_behind =
            self.log_buffer.is_none() && (!self.streams.refused.is_empty() || self.streams.pipe_waits());
        let hold = log_is_behind || self.clients.values().any(|client| client.holds_output());
        if hold == self.streams.held {
            return;
        }
        self.streams.held = hold;
        if let Some(terminal) = &self.streams.terminal {
            let flags = if hold { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
            let _ = self.epoll.modify(terminal, &mut EpollEvent::new(flags, STDOUT));
        }
        self.watch_pipe(true);
        self.watch_pipe(false);
    }

    /// Watches a pipe (anew): if there is something in it now, that is an event, too.
    fn watch_pipe(&mut self, first: bool) {
        let mut flags = EpollFlags::EPOLLET;
        flags.set(EpollFlags::EPOLLIN, !self.streams.held);
        let token = if first { STDOUT } else { STDERR };
        if let Some(output) = self.streams.pipe(first) {
            let _ = self.epoll.modify(output.fd(), &mut EpollEvent::new(flags, token));
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
