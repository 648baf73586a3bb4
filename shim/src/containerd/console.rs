//! A terminal, received from the runtime over a socket of ours.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub struct Console {
    listener: UnixListener,
    dir: File,
    name: String,
}

impl Console {
    /// Listens in the bundle.
    pub fn listen(bundle: &Path, serial: u64) -> Result<Self> {
        let dir = File::open(bundle).with_context(|| format!("open {}", bundle.display()))?;
        let name = format!("console.{serial}");
        let direct = bundle.join(&name);
        let _ = fs::remove_file(&direct);
        let console = UnixListener::bind(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
            .with_context(|| format!("listen on {}", direct.display()));
        Ok(Self { listener: console?, dir, name })
    }

    /// Its address, through a descriptor: a bundle's path is longer than a socket's may be.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}/{}", std::process::id(), self.dir.as_raw_fd(), self.name).into()
    }

    /// The master's end, which a runtime that has ended well has sent.
    pub fn receive(&self) -> Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (socket, _) = self.listener.accept().context("receive the terminal: the runtime sent none")?;
        socket.set_nonblocking(true)?;
        let (_, fd) = sys::pass_fd::receive(socket.as_fd(), &mut [0; 512]).context("receive the terminal")?;
        fd.context("receive the terminal: the runtime sent none")
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = fs::remove_file(format!("/proc/self/fd/{}/{}", self.dir.as_raw_fd(), self.name));
    }
}
