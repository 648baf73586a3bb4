//! The caller's side of a container's terminal: handing the master end over, or showing it ourselves.

use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::termios::{self, SetArg, Termios};

/// What the first bytes with a passed terminal say: its name, as runc sends it.
const NAME: &[u8] = b"/dev/ptmx";
/// Bytes on their way in one direction.
const CHUNK: usize = 16 << 10;

/// Checks `--console-socket` against the terminal that config.json wants, as runc does.
///
/// # Errors
/// A usage fault where only one of the two is there.
pub fn check(terminal: bool, socket: Option<&Path>, detached: bool) -> Result<()> {
    match (terminal, socket) {
        (true, None) if detached => {
            fault!(Usage, "cannot allocate tty if the runtime will detach without setting console socket")
        }
        (false, Some(_)) => {
            fault!(Usage, "cannot use console socket if the runtime will not detach or allocate tty")
        }
        _ => Ok(()),
    }
}

/// Sends a descriptor to a listening socket: the terminal (`--console-socket`) or a pidfd (`--pidfd-socket`).
///
/// # Errors
/// Nobody listens.
pub fn send(socket: &Path, fd: BorrowedFd<'_>) -> Result<()> {
    let context = || format!("send a descriptor to {}", socket.display());
    let stream = UnixStream::connect(socket).with_context(context)?;
    sys::pass_fd::send(&stream, NAME, fd).with_context(context)
}

/// A container's terminal shown on ours.
#[derive(Debug)]
pub struct Relay {
    master: OwnedFd,
    saved: Option<Termios>,
    out: Vec<u8>,
    input: Vec<u8>,
    stdin_open: bool,
}

impl Relay {
    /// Starts: our terminal, if stdin is one, becomes raw and lends its size.
    ///
    /// # Errors
    /// Whatever the terminal says.
    pub fn start(master: OwnedFd) -> Result<Self> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("make the terminal non-blocking")?;
        let stdin = io::stdin();
        let mut saved = None;
        if stdin.is_terminal() {
            let settings = termios::tcgetattr(&stdin).context("read our terminal's settings")?;
            let mut raw = settings.clone();
            termios::cfmakeraw(&mut raw);
            termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).context("make our terminal raw")?;
            saved = Some(settings);
        }
        let relay = Self { master, saved, out: Vec::new(), input: Vec::new(), stdin_open: true };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of ours.
    pub fn resize(&self) {
        if let Ok(size) = sys::pty::size(io::stdin().as_fd()) {
            let _ = sys::pty::set_size(self.master.as_fd(), size);
        }
    }

    /// What to poll for: the master end and stdin.
    #[must_use]
    pub fn interest<'a>(&'a self, stdin: BorrowedFd<'a>) -> [PollFd<'a>; 2] {
        let mut master = PollFlags::POLLIN;
        if !self.input.is_empty() {
            master |= PollFlags::POLLOUT;
        }
        let ours =
            if self.stdin_open && self.input.is_empty() { PollFlags::POLLIN } else { PollFlags::empty() };
        [PollFd::new(self.master.as_fd(), master), PollFd::new(stdin, ours)]
    }

    /// Moves what is there to be moved. False once the container's side is closed and all its output is shown.
    ///
    /// # Errors
    /// Our stdout is closed.
    pub fn pump(&mut self, stdin_ready: bool) -> Result<bool> {
        if stdin_ready && self.input.is_empty() {
            self.input.resize(CHUNK, 0);
            let length = nix::unistd::read(io::stdin(), &mut self.input).unwrap_or(0);
            self.input.truncate(length);
            self.stdin_open = length > 0;
        }
        if !self.input.is_empty()
            && let Ok(length) = nix::unistd::write(&self.master, &self.input)
        {
            self.input.drain(..length);
        }
        Ok(self.show()? != Shown::End)
    }

    /// Shows all that the container has written so far.
    ///
    /// # Errors
    /// Our stdout is closed.
    pub fn drain(&mut self) -> Result<()> {
        while self.show()? == Shown::Some {}
        Ok(())
    }

    fn show(&mut self) -> Result<Shown> {
        self.out.resize(CHUNK, 0);
        match nix::unistd::read(&self.master, &mut self.out) {
            Ok(0) | Err(Errno::EIO) => Ok(Shown::End),
            Ok(length) => {
                use io::Write as _;
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(&self.out[..length])
                    .and_then(|()| stdout.flush())
                    .context("write to stdout")?;
                Ok(Shown::Some)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Shown::Nothing),
            Err(err) => Err(err).context("read from the terminal"),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Shown {
    Some,
    Nothing,
    End,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, saved);
        }
    }
}
