//! How a created container's process waits for `runtime start`, and answers it: two FIFOs in the container's
//! directory, which the process holds open since before it left the host's file system.
//!
//! `start` is only read: `read(2)` is the one call that every system call filter lets through. Its being open for
//! reading is also how everybody else sees that the container has not been started yet.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::channel;
use crate::container::directory::Directory;
use crate::{hooks, log};

const START: &str = "start";
const ANSWER: &str = "answer";

/// The process's ends.
#[derive(Debug)]
pub struct Waiting {
    start: File,
    answer: File,
}

/// Makes the FIFOs and opens them for the process, to become its [`Waiting`].
///
/// # Errors
/// Whatever the file system says.
pub fn prepare(directory: &Directory) -> Result<[OwnedFd; 2]> {
    let open = |name: &str| {
        let path = directory.file_path(name);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).with_context(|| format!("make {}", path.display()))?;
        // Both ways, so that neither this open nor a later read ever depends on somebody being at the other end.
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map(OwnedFd::from)
            .with_context(|| format!("open {}", path.display()))
    };
    Ok([open(START)?, open(ANSWER)?])
}

impl Waiting {
    /// With what [`prepare`] opened.
    #[must_use]
    pub fn new((start, answer): (OwnedFd, OwnedFd)) -> Self {
        Self { start: start.into(), answer: answer.into() }
    }

    /// Closes all other descriptors of this process from `first` on, but for those that messages and hooks' output go to.
    /// Only for one that never returns to their owners.
    ///
    /// # Errors
    /// Before Linux 5.9.
    pub fn close_others_from(&self, first: u32) -> Result<()> {
        let mut kept: Vec<BorrowedFd<'_>> = vec![self.start.as_fd(), self.answer.as_fd()];
        if let Some(fd) = log::descriptor() {
            kept.push(fd);
        }
        for fd in hooks::descriptors() {
            kept.push(fd);
        }
        sys::clone::close_all_but(first, &kept).context("close the runtime's descriptors")
    }

    /// Waits for `runtime start`.
    ///
    /// # Errors
    /// None in practice.
    pub fn wait(&mut self) -> Result<()> {
        self.start.read_exact(&mut [0]).context("wait for start")
    }

    /// Tells `runtime start` that the program could not be executed.
    pub fn answer(&mut self, err: &anyhow::Error) {
        let _ = self.answer.write_all(&channel::encode(err));
    }
}

/// Starts the waiting process and returns once its program runs.
///
/// # Errors
/// A fault of kind `WrongState` where nobody waits; the error of a process that could not execute its program.
pub fn start(directory: &Directory) -> Result<()> {
    let open = |name: &str, write: bool| {
        OpenOptions::new()
            .read(!write)
            .write(write)
            .custom_flags(libc::O_NONBLOCK)
            .open(directory.file_path(name))
    };
    let not_waiting =
        |err: &std::io::Error| err.kind() == ErrorKind::NotFound || err.raw_os_error() == Some(libc::ENXIO);
    let answer = open(ANSWER, false);
    let mut start = match open(START, true) {
        Ok(start) => start,
        Err(err) if not_waiting(&err) => fault!(WrongState, "cannot start an already running container"),
        Err(err) => return Err(err).context("open the start FIFO"),
    };
    let answer = answer.context("open the answer FIFO")?;
    start.write_all(b"s").context("start the container's process")?;
    drop(start);
    // Its end closes when the program replaces the process.
    let mut bytes = Vec::new();
    blocking(answer)?.read_to_end(&mut bytes).context("wait for the program to start")?;
    for name in [START, ANSWER] {
        let _ = std::fs::remove_file(directory.file_path(name));
    }
    if bytes.is_empty() { Ok(()) } else { Err(channel::decode(&bytes)) }
}

fn blocking(file: File) -> Result<File> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).context("make the answer FIFO blocking")?;
    Ok(File::from(OwnedFd::from(file)))
}
