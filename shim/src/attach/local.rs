//! The foreground of an `exec`: no supervisor in between.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::keys::Keys;
use super::terminal::{Raw, size};

/// Runs a command with our streams; signals that reach only us reach it too. Its exit code as a shell sees it.
pub fn wait_passing_signals(command: &mut Command) -> Result<i32> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    set.thread_block().context("block signals")?;
    let child = command.spawn().context("execute the runtime")?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(128 + signal as i32),
            _ => {}
        }
        match set.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            // From the terminal they have reached the child as well; twice does no harm.
            Ok(signal) => drop(kill(pid, signal)),
        }
    }
}

/// Joins a terminal to ours until its process ends (its code) or the user detaches (`None`).
pub fn join(terminal: &OwnedFd, pid: i32, keys: Keys, stdin: bool) -> Result<Option<i32>> {
    let raw = if stdin && io::stdin().is_terminal() { Some(Raw::enter()?) } else { None };
    let signals = super::session::take_signals(false)?;
    let mut keys = keys;
    let mut input = if stdin { Some(File::from(io::stdin().as_fd().try_clone_to_owned()?)) } else { None };
    let mut master = File::from(terminal.try_clone()?);
    let mut buffer = vec![0; 32 << 10];
    resize(terminal);
    loop {
        let mut fds = vec![
            PollFd::new(terminal.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(input) = &input {
            fds.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.map(drop).context("poll")?,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready[1] {
            while let Ok(Some(_)) = signals.read_signal() {}
            resize(terminal);
        }
        if ready[0] {
            match master.read(&mut buffer) {
                Ok(length) if length > 0 => {
                    let mut out = io::stdout().lock();
                    out.write_all(&buffer[..length]).and_then(|()| out.flush()).context("write to stdout")?;
                }
                Err(err) if err.raw_os_error() == Some(libc::EINTR) => {}
                // EIO: the last process on the terminal has gone.
                _ => break,
            }
        }
        if ready.get(2) == Some(&true) {
            let length = input.as_mut().map_or(0, |input| input.read(&mut buffer).unwrap_or(0));
            if length == 0 {
                input = None;
                continue;
            }
            let (pass, detach) = keys.filter(&buffer[..length]);
            master.write_all(&pass).context("write to the terminal")?;
            if detach {
                return Ok(None);
            }
        }
    }
    drop(raw);
    loop {
        match waitpid(Pid::from_raw(pid), None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Some(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Some(128 + signal as i32)),
            Err(Errno::EINTR) | Ok(_) => {}
            Err(err) => return Err(err).context("wait for the command"),
        }
    }
}

fn resize(terminal: &OwnedFd) {
    if let Some(size) = size() {
        let _ = sys::pty::set_size(terminal.as_fd(), size);
    }
}

/// After a detach: somebody must hold the terminal, or its processes get SIGHUP. A copy of this program does, and
/// reads what they write, until they end.
pub fn leave_behind(terminal: OwnedFd) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    Command::new(std::env::current_exe()?)
        .arg0("shim")
        .arg("hold-terminal")
        .stdin(Stdio::from(terminal))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("leave the terminal behind")?;
    Ok(())
}

/// `shim hold-terminal`: stdin is a terminal's master end.
pub fn hold() {
    let _ = nix::unistd::setsid();
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
}
