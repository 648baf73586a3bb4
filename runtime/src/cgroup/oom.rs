//! Waiting for a container to run out of memory.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::poll::PollFlags;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Location;
use super::file::Dir;

/// A descriptor that wakes at each kill for lack of memory, and when the cgroup goes.
#[derive(Debug)]
pub struct OomEvents {
    source: Source,
    dir: PathBuf,
}

#[derive(Debug)]
enum Source {
    /// v1: an eventfd bound to `memory.oom_control`, which must stay open.
    Counter(EventFd, #[allow(dead_code)] File),
    /// v2: `memory.events` and the kills seen so far.
    Events(File, u64),
}

impl OomEvents {
    /// Starts watching.
    ///
    /// # Errors
    /// The container has no memory controller.
    pub fn watch(location: &Location) -> Result<Self> {
        if let Some(member) = location.with_controller("memory") {
            let dir = Dir::open(&member.controllers, &member.path)?;
            let control = File::open(member.path.join("memory.oom_control"))
                .with_context(|| dir.name_of("memory.oom_control"))?;
            let counter =
                EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).context("eventfd")?;
            let line = format!("{} {}", counter.as_fd().as_raw_fd(), control.as_raw_fd());
            dir.write("cgroup.event_control", &line).with_context(|| dir.name_of("cgroup.event_control"))?;
            return Ok(Self { source: Source::Counter(counter, control), dir: member.path.clone() });
        }
        let events = location.unified().map(|member| member.path.join("memory.events"));
        match events.map(|path| (File::open(&path), path)) {
            Some((Ok(file), path)) => {
                let dir = path.parent().map(PathBuf::from).unwrap_or_default();
                let mut events = Self { source: Source::Events(file, 0), dir };
                events.take()?;
                Ok(events)
            }
            _ => fault!(Unsupported, "watch for lack of memory: the container has no memory controller"),
        }
    }

    /// What to wait for on the descriptor.
    #[must_use]
    pub fn interest(&self) -> PollFlags {
        match self.source {
            Source::Counter(..) => PollFlags::POLLIN,
            Source::Events(..) => PollFlags::POLLPRI,
        }
    }

    /// The kills since the last call; `None` once the cgroup is gone.
    ///
    /// # Errors
    /// The cgroup's files cannot be read.
    pub fn take(&mut self) -> Result<Option<u64>> {
        if !self.dir.exists() {
            return Ok(None); // its removal wakes us too
        }
        match &mut self.source {
            Source::Counter(counter, _) => match counter.read() {
                Ok(count) => Ok(Some(count)),
                Err(nix::errno::Errno::EAGAIN) => Ok(Some(0)),
                Err(err) => Err(err).context("read eventfd"),
            },
            Source::Events(file, seen) => {
                let mut text = String::new();
                let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
                match read {
                    Err(err) if err.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
                    other => {
                        other.with_context(|| format!("read {}", self.dir.join("memory.events").display()))?
                    }
                };
                let kills =
                    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0);
                Ok(Some(kills - std::mem::replace(seen, kills).min(kills)))
            }
        }
    }
}

impl AsFd for OomEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Counter(counter, _) => counter.as_fd(),
            Source::Events(file, _) => file.as_fd(),
        }
    }
}
