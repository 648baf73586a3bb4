//! Signals for a container.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::process::Process;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::log;

/// How long a killed process may take to end: it may be flushing to a slow disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often is looked at what it waits for, in milliseconds.
const LOOK: u16 = 100;

/// Sends `signal` to the container's first process, with `all` to each of its processes.
///
/// # Errors
/// A fault of kind `WrongState` where it is not running.
pub fn kill(directory: &Directory, signal: i32, all: bool) -> Result<()> {
    let state = directory.state()?;
    let status = Status::of(directory, &state)?;
    log::debug(format_args!("signal {signal} to container {}, which is {status}", state.id));
    let shares_pids = state.namespaces & libc::CLONE_NEWPID == 0;
    // Without a PID namespace the other processes outlive the first, and are still ours to kill.
    if let (true, Some(cgroup)) = (all || (shares_pids && signal == libc::SIGKILL), &state.cgroup)
        && !cgroup.dirs.is_empty()
        && (status.is_alive() || all || !cgroup.pids()?.is_empty())
    {
        return if signal == libc::SIGKILL { cgroup.kill_all() } else { cgroup.signal_all(signal) };
    }
    let Some(init) = first(&state)?.filter(|_| status.is_alive()) else {
        fault!(WrongState, "container not running")
    };
    match sys::pidfd::send_signal(&init, signal) {
        Err(err) if err.raw_os_error() == Some(libc::ESRCH) => fault!(WrongState, "container not running"),
        other => other.context("signal the container's process")?,
    }
    if let (Status::Paused, libc::SIGKILL, Some(cgroup)) = (status, signal, &state.cgroup) {
        // On cgroup v1 a frozen process does not even die.
        cgroup.thaw()?;
    }
    Ok(())
}

/// Kills every process of a container and waits until its first one is gone.
///
/// # Errors
/// It does not end in time (a process in uninterruptible sleep).
pub fn everything(state: &State) -> Result<()> {
    let init = first(state)?;
    if let Some(init) = &init {
        let _ = sys::pidfd::send_signal(init, libc::SIGKILL);
    }
    if let Some(cgroup) = &state.cgroup {
        cgroup.kill_all()?;
    }
    match (init, &state.init) {
        (Some(pidfd), Some(init)) => wait_for_end(&pidfd, init),
        _ => Ok(()),
    }
}

fn first(state: &State) -> Result<Option<OwnedFd>> {
    match &state.init {
        Some(init) => init.open().context("open the container's process"),
        None => Ok(None),
    }
}

fn wait_for_end(pidfd: &OwnedFd, process: &Process) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK)) {
            Ok(0) if process.is_ending() => {
                log::debug(format_args!(
                    "process {} waits for processes that others have to reap",
                    process.pid
                ));
                return Ok(());
            }
            Ok(0) if end <= Instant::now() => {
                fault!(Busy, "the container's process does not end although it was killed")
            }
            Ok(0) => {}
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(err) => return Err(err).context("wait for the container's process"),
        }
    }
}

/// A signal by number (0 is none: it asks whether there is somebody to get one), name, or name with `SIG`, also real-time ones (`RTMIN+3`).
///
/// # Errors
/// A usage fault.
pub fn parse_signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        if (0..=64).contains(&number) {
            return Ok(number);
        }
        fault!(Usage, "unknown signal {text:?}");
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(signal) = format!("SIG{name}").parse::<nix::sys::signal::Signal>() {
        return Ok(signal as i32);
    }
    // As the kernel counts them, less the two that libc keeps for itself.
    let offset =
        |rest: &str| if rest.is_empty() { Some(0) } else { rest[1..].parse::<u8>().ok().map(i32::from) };
    let number = if let Some(rest) =
        name.strip_prefix("RTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+'))
    {
        offset(rest).map(|offset| 34 + offset)
    } else if let Some(rest) =
        name.strip_prefix("RTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-'))
    {
        offset(rest).map(|offset| 64 - offset)
    } else {
        None
    };
    match number.filter(|number| (34..=64).contains(number)) {
        Some(number) => Ok(number),
        None => fault!(Usage, "unknown signal {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn signals() {
        for (text, number) in [
            ("0", 0),
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for wrong in
            ["", "65", "-9", "SIG", "FOO", "RTMIN+99", "RTMIN3", "RTMAX+1", "RTMIN+2147483647", "RTMIN+-1"]
        {
            assert!(parse_signal(wrong).is_err(), "{wrong}");
        }
    }
}
