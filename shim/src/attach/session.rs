//! The foreground: our stdin, stdout and stderr joined to a container's until it ends or the user detaches.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use contracts::exit::Exit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sys::seqpacket;

use super::keys::Keys;
use super::terminal::{Raw, size};
use super::wire;

/// How to be joined.
pub struct Options {
    /// Send our stdin.
    pub stdin: bool,
    /// The container has a terminal.
    pub tty: bool,
    /// The sequence that detaches.
    pub keys: Keys,
    /// Show stdout and stderr.
    pub show: (bool, bool),
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The payload ended with this code.
    Ended(i32),
    /// The user typed the detach keys.
    Detached,
    /// Nobody reads what we write any more (`shim run … | head -1`).
    Unread,
}

impl Outcome {
    /// The exit code of the command whose session it was.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Ended(code) => Exit::Payload(u8::try_from(*code).unwrap_or(255)),
            Self::Detached => Exit::Ok,
            // As of any program of a pipeline that SIGPIPE ends.
            Self::Unread => Exit::Payload(128 + Signal::SIGPIPE as u8),
        }
    }
}

/// Signals that are passed on; the others are the kernel's or the terminal's business.
const PASSED: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];

/// Blocks the signals that a session takes, before there is anything they could hit half-done.
pub fn take_signals(pass: bool) -> Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGWINCH);
    if pass {
        PASSED.iter().for_each(|&signal| set.add(signal));
    }
    set.thread_block().context("block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("open a signalfd")
}

/// Runs the session on a connection that has been asked to attach.
pub fn run(socket: &OwnedFd, signals: &SignalFd, options: Options) -> Result<Outcome> {
    let terminal = options.tty && io::stdin().is_terminal();
    let raw = if terminal && options.stdin { Some(Raw::enter()?) } else { None };
    let mut session = Session {
        socket,
        signals,
        input: if options.stdin { Some(File::from(io::stdin().as_fd().try_clone_to_owned()?)) } else { None },
        options,
        buffer: vec![0; wire::CHUNK + 1],
    };
    if session.options.tty {
        session.send_size();
    }
    let outcome = session.pump();
    drop(raw);
    outcome
}

struct Session<'a> {
    socket: &'a OwnedFd,
    signals: &'a SignalFd,
    input: Option<File>,
    options: Options,
    buffer: Vec<u8>,
}

impl Session<'_> {
    fn pump(&mut self) -> Result<Outcome> {
        loop {
            let ready = self.wait()?;
            if ready[1] {
                self.pass_signals();
            }
            if ready[0]
                && let Some(outcome) = self.show()?
            {
                return Ok(outcome);
            }
            if ready[2] && self.read_input()? {
                return Ok(Outcome::Detached);
            }
        }
    }

    fn wait(&self) -> Result<[bool; 3]> {
        let mut fds = vec![
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(input) = &self.input {
            fds.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                other => break other.map(drop).context("poll")?,
            }
        }
        let ready = |at: usize| fds.get(at).is_some_and(|fd| fd.any().unwrap_or(false));
        Ok([ready(0), ready(1), ready(2)])
    }

    fn show(&mut self) -> Result<Option<Outcome>> {
        let length = seqpacket::receive(self.socket, &mut self.buffer).context("read from the supervisor")?;
        let Some((&kind, bytes)) = self.buffer[..length].split_first() else {
            bail!(
                "the connection to the container was lost: its supervisor ended, or this end read too slowly"
            );
        };
        let written = match kind {
            wire::STDOUT if self.options.show.0 => write(io::stdout().as_fd(), bytes),
            wire::STDERR if self.options.show.1 => write(io::stderr().as_fd(), bytes),
            wire::EXIT => {
                let exit: wire::Exit = serde_json::from_slice(bytes).context("read the exit code")?;
                return Ok(Some(Outcome::Ended(exit.code)));
            }
            wire::REPLY => {
                let reply: wire::Reply =
                    serde_json::from_slice(bytes).context("read the supervisor's answer")?;
                if let Some(error) = reply.error {
                    bail!(error);
                }
                Ok(())
            }
            _ => Ok(()),
        };
        match written {
            Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(Some(Outcome::Unread)),
            other => other.map(|()| None).context("write the container's output"),
        }
    }

    /// True when the user detaches.
    fn read_input(&mut self) -> Result<bool> {
        let Some(input) = &mut self.input else { return Ok(false) };
        let length = match input.read(&mut self.buffer[..wire::CHUNK]) {
            Ok(length) => length,
            Err(err) if matches!(err.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => return Ok(false),
            // A terminal that hung up, a stdin that is closed: no more input.
            Err(_) => 0,
        };
        if length == 0 {
            self.input = None;
            self.send(&[wire::CLOSE]);
            return Ok(false);
        }
        let (pass, detach) = if self.options.tty {
            self.options.keys.filter(&self.buffer[..length])
        } else {
            (self.buffer[..length].to_vec(), false)
        };
        if !pass.is_empty() {
            let mut message = vec![wire::STDIN];
            message.extend_from_slice(&pass);
            self.send(&message);
        }
        Ok(detach)
    }

    fn pass_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let Ok(number) = i32::try_from(info.ssi_signo) else { continue };
            if number == Signal::SIGWINCH as i32 {
                if self.options.tty {
                    self.send_size();
                }
            } else if let Ok(number) = u8::try_from(number) {
                self.send(&[wire::SIGNAL, number]);
            }
        }
    }

    fn send_size(&self) {
        if let Some((rows, columns)) = size() {
            let (rows, columns) = (rows.to_le_bytes(), columns.to_le_bytes());
            self.send(&[wire::SIZE, rows[0], rows[1], columns[0], columns[1]]);
        }
    }

    /// A supervisor that has gone is seen where its answers are read.
    fn send(&self, message: &[u8]) {
        let _ = seqpacket::send(self.socket, message);
    }
}

/// Everything to a descriptor, past any buffer.
fn write(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    File::from(to.try_clone_to_owned()?).write_all(bytes)
}
