//! Staying with a container's process: its terminal, its signals, its exit code.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};

use super::notify_socket::NotifySocket;
use crate::console::Relay;

/// Signals that are held back from now on and forwarded by [`Foreground::wait`]. To be made before the container's
/// process, so that none is lost in between; the process itself unblocks them all.
#[derive(Debug)]
pub struct Foreground {
    signals: SignalFd,
}

impl Foreground {
    /// Blocks all signals.
    ///
    /// # Errors
    /// None in practice.
    pub fn prepare() -> Result<Self> {
        let all = SigSet::all();
        all.thread_set_mask().context("block signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { signals: SignalFd::with_flags(&all, flags).context("make a signalfd")? })
    }

    /// Waits for our child `process`, showing its terminal, forwarding signals and telling who it is for when it is ready. Returns its exit code, or 128 and
    /// the signal that killed it.
    ///
    /// # Errors
    /// Whatever `poll(2)` says.
    pub fn wait(
        &self,
        process: &OwnedFd,
        terminal: Option<OwnedFd>,
        mut notify: Option<NotifySocket>,
    ) -> Result<u8> {
        let mut relay = terminal.map(Relay::start).transpose()?;
        let code = loop {
            let stdin = io::stdin();
            let mut fds = vec![
                PollFd::new(process.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            if let Some(relay) = &relay {
                fds.extend(relay.interest(stdin.as_fd()));
            }
            let last = fds.len();
            fds.extend(notify.iter().map(|notify| PollFd::new(notify.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(err) => return Err(err).context("wait for the container's process"),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
            drop(fds);
            // We are who the manager watches, for we end with the container.
            if ready.get(last) == Some(&true)
                && let Some(socket) = &notify
                && socket.pass_on(std::process::id().cast_signed())
            {
                notify = None;
            }
            // Nobody is left to get a signal.
            if ready[0] {
                break exit_code(process)?;
            }
            if ready[1] {
                self.forward(process, relay.as_ref());
            }
            if last == 4 && (ready[2] || ready[3]) {
                pump(&mut relay, ready[3])?;
            }
        };
        if let Some(relay) = &mut relay {
            // What the program wrote last is still in the terminal.
            relay.drain()?;
        }
        Ok(code)
    }

    fn forward(&self, process: &OwnedFd, relay: Option<&Relay>) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = info.ssi_signo.cast_signed();
            match Signal::try_from(signal) {
                Ok(Signal::SIGCHLD) => reap_others(process),
                Ok(Signal::SIGWINCH) => {
                    if let Some(relay) = relay {
                        relay.resize();
                    }
                }
                // Meant for this program: the Go runtime's preemption signal is of no use to anybody else either.
                Ok(Signal::SIGPIPE | Signal::SIGURG) => {}
                _ => {
                    let _ = sys::pidfd::send_signal(process, signal);
                }
            }
        }
    }
}

fn pump(relay: &mut Option<Relay>, stdin_ready: bool) -> Result<()> {
    if let Some(open) = relay
        && !open.pump(stdin_ready)?
    {
        *relay = None;
    }
    Ok(())
}

/// As the subreaper we get the orphans of the container's processes too. The process itself is left for its pidfd.
fn reap_others(process: &OwnedFd) {
    let ended = |who| waitid(who, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG);
    while let Some(pid) = ended(Id::All).ok().and_then(|status| status.pid()) {
        // Asked only now, when it must be known if that is who ended: it may end at any moment.
        if ended(Id::PIDFd(process.as_fd())).is_ok_and(|status| status.pid() == Some(pid)) {
            return;
        }
        let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
    }
}

fn exit_code(process: &OwnedFd) -> Result<u8> {
    loop {
        let code = match waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Exited(_, code)) => code,
            Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(err) => return Err(err).context("wait for the container's process"),
        };
        return Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
    }
}

/// Adopts the orphans of a container that shares our PID namespace.
///
/// # Errors
/// None in practice.
pub fn become_subreaper() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
    Ok(())
}
