//! The user's terminal in raw mode, and back again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, Result};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// While it lives, stdin's terminal is raw.
pub struct Raw {
    terminal: OwnedFd,
    before: Termios,
}

impl Raw {
    /// Makes stdin's terminal raw.
    pub fn enter() -> Result<Self> {
        let terminal = io::stdin().as_fd().try_clone_to_owned().context("copy stdin")?;
        let before = tcgetattr(&terminal).context("read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw).context("make the terminal raw")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, SetArg::TCSANOW, &self.before);
    }
}

/// The size of the user's terminal, if there is one.
pub fn size() -> Option<(u16, u16)> {
    let fds = [io::stdin().as_fd().try_clone_to_owned(), io::stdout().as_fd().try_clone_to_owned()];
    fds.into_iter().flatten().find_map(|fd| sys::pty::size(fd.as_fd()).ok())
}
