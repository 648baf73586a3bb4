//! Ending every process of a container.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Location;
use super::file::Dir;

/// How long killed processes may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds the pids of a cgroup and of all below it. A directory that is gone has none.
pub fn collect(dir: &Path, pids: &mut Vec<i32>) -> io::Result<()> {
    let missing_is_empty = |err: io::Error| match err.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV) => Ok(()),
        _ => Err(err),
    };
    match fs::read_to_string(dir.join("cgroup.procs")) {
        // 0 is a process that we cannot see from our pid namespace; kill(2) would take it for our own group.
        Ok(text) => {
            pids.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0))
        }
        // A threaded cgroup lists its processes at its root only.
        Err(err) if err.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(err) => return missing_is_empty(err),
    }
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) => return missing_is_empty(err),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), pids)?;
        }
    }
    Ok(())
}

impl Location {
    /// Sends a signal to every process, also in nested cgroups, none missed: they stand still meanwhile.
    ///
    /// # Errors
    /// The cgroup cannot be read, or a process not signalled.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        let was_frozen = self.is_frozen().unwrap_or(false);
        // Without a freezer, or with a process that cannot be stopped, what is seen is signalled.
        let frozen_here = !was_frozen && self.freeze().is_ok();
        let sent = self.pids().and_then(|pids| pids.iter().try_for_each(|pid| send(*pid, signal)));
        // Even SIGKILL waits for the thaw on v1.
        if frozen_here || (was_frozen && signal == libc::SIGKILL) {
            let _ = self.thaw();
        }
        sent
    }

    /// Kills every process and waits until none is left.
    ///
    /// # Errors
    /// Some process is still there after ten seconds (in an uninterruptible wait, or not ours to kill).
    pub fn kill_all(&self) -> Result<()> {
        if self.dirs.is_empty() {
            return Ok(());
        }
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(100);
        let mut killed = false;
        loop {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("kill the container's processes: {} still there, among them {}", pids.len(), pids[0]);
            }
            // Once is enough where the kernel sees to it that no child escapes.
            if !killed {
                killed = self.kill_by_kernel()?;
            }
            if !killed {
                self.signal_all(libc::SIGKILL)?;
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// `cgroup.kill` (Linux 5.14), also in a hybrid.
    fn kill_by_kernel(&self) -> Result<bool> {
        let Some(member) = self.unified() else { return Ok(false) };
        // systemd removes a scope's cgroup when its last process ends, which can be now.
        let dir = match Dir::open(&member.controllers, &member.path) {
            Err(_) if !member.path.exists() => return Ok(false),
            opened => opened?,
        };
        match dir.write("cgroup.kill", "1") {
            Ok(()) => {}
            Err(err) if err.raw_os_error() == Some(libc::ENODEV) => return Ok(false),
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(false),
            Err(err) => return Err(err).with_context(|| format!("write {}", dir.name_of("cgroup.kill"))),
        }
        // The v1 freezer holds even the killed.
        if self.with_controller("freezer").is_some() {
            self.thaw()?;
        }
        Ok(true)
    }
}

fn send(pid: i32, signal: i32) -> Result<()> {
    let signal = nix::sys::signal::Signal::try_from(signal).map_or(Err(signal), Ok);
    let sent = match signal {
        Ok(signal) => kill(Pid::from_raw(pid), signal),
        // A real-time signal, which has no name there.
        Err(number) => sys::pidfd::open(pid)
            .and_then(|fd| sys::pidfd::send_signal(fd, number))
            .map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EINVAL))),
    };
    match sent {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(err) => Err(err).with_context(|| format!("signal process {pid}")),
    }
}
