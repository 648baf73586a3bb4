//! What a container is doing, found out from the kernel each time and never stored.

use std::fmt;
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::Result;
use nix::libc;

use super::directory::Directory;
use super::state::State;

/// The states of the specification, and `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `create` has not finished.
    Creating,
    /// It waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// Looks at the processes behind `state`.
    ///
    /// # Errors
    /// The cgroup's freezer cannot be read.
    pub fn of(directory: &Directory, state: &State) -> Result<Self> {
        // Whoever creates it holds the lock; a free lock means that they died over it.
        if state.creating && directory.is_locked_elsewhere()? {
            return Ok(Self::Creating);
        }
        let Some(init) = state.init else { return Ok(Self::Stopped) };
        if !init.is_running() {
            return Ok(Self::Stopped);
        }
        if let Some(location) = &state.cgroup
            && location.is_frozen()?
        {
            return Ok(Self::Paused);
        }
        Ok(if waits_for_start(directory) { Self::Created } else { Self::Running })
    }

    /// Whether the first process lives.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Created | Self::Running | Self::Paused)
    }
}

/// The first process keeps the FIFO open for reading until its program replaces it, and a FIFO that nobody reads
/// cannot be opened for writing: so the kernel itself remembers who was started, whoever was killed meanwhile.
fn waits_for_start(directory: &Directory) -> bool {
    let path = directory.file_path("start");
    std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path).is_ok()
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}
