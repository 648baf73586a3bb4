//! The payload ends: last bytes, exit code, then another start or the clearing away.

use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use contracts::container::{State, now};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::clients::Client;
use super::{Phase, Supervisor, policy};
use crate::container::remove;
use crate::container::unmount::unmount;
use crate::{events, spec, tools, volume};

impl Supervisor {
    /// Takes every child that ended: the payload, a health check, an orphan.
    pub(super) fn reap(&mut self) -> Result<()> {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(err) => return Err(err.into()),
            };
            if self.status.process.is_some_and(|process| process.pid == pid.as_raw()) {
                self.ended(code)?;
            } else {
                self.log.child_ended(pid.as_raw(), code);
                self.health_ended(pid.as_raw(), code);
            }
        }
    }

    /// An adopted payload is not our child: the kernel tells that it ended, and since 6.15 how.
    pub(super) fn adopted_end(&mut self) -> Result<()> {
        let code = match &self.payload {
            Some(pidfd) => {
                let _ = self.epoll.delete(pidfd);
                exit_code_when_reaped(pidfd)
            }
            None => 255,
        };
        self.ended(code)
    }

    fn ended(&mut self, code: i32) -> Result<()> {
        self.drain();
        self.retry_log();
        if self.streams.refused.is_empty() {
            let _ = self.log.flush();
        }
        self.status.exit_code = code;
        self.status.finished_at = now();
        let told = std::mem::replace(&mut self.status.oom_killed, false);
        self.memory = None;
        self.status.oom_killed = told || self.oom_killed();
        self.status.process = None;
        self.payload = None;
        self.kill_at = None;
        self.health_stopped();
        self.streams.close(&self.epoll);
        let ran = self.started.elapsed();
        let (code_text, seconds) = (code.to_string(), ran.as_secs().to_string());
        if self.status.oom_killed && !told {
            events::container(&self.store, &self.record, "oom", &[]);
        }
        events::container(
            &self.store,
            &self.record,
            "die",
            &[("execDuration", &seconds), ("exitCode", &code_text)],
        );
        if self.clients.values().any(Client::is_checkpointing) {
            // Its user has put it away, to go on from there.
            (self.stopping, self.status.manually_stopped) = (true, true);
        }
        let policy = &self.record.host_config.restart_policy;
        let once = std::mem::take(&mut self.restart_once);
        if !self.stopping && (once || policy::wants_restart(policy, code, self.status.restart_count)) {
            let wait = self.backoff.next(ran);
            self.status.state = State::Restarting;
            self.status.restart_count += 1;
            self.phase = Phase::Waiting(Instant::now() + wait);
            self.publish();
            self.tell_exit();
            self.delete();
            return Ok(());
        }
        self.finish()
    }

    /// The policy's start. A start that fails counts as a run that failed at once.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let started = spec::join_again(&self.store, &self.record).and_then(|()| self.launch());
        if let Err(err) = started {
            self.status.error = contracts::report::one_line(&err);
            let code = match contracts::exit::Exit::before_payload(&err).code() {
                125 => 128,
                code => i32::from(code),
            };
            return self.ended(code);
        }
        Ok(())
    }

    /// The end for good: truth on disk, answers, then everything that nobody has to wait for.
    pub(super) fn finish(&mut self) -> Result<()> {
        let id = self.record.id.clone();
        let removing = self.record.host_config.auto_remove;
        self.phase = Phase::Over;
        self.status.state = if removing { State::Removing } else { State::Exited };
        // A published port must be free when the command returns, a network of the user's own be without it, and what --rm
        // takes along not be in `volume ls`; the rest may take its time.
        let network = &self.record.network;
        let own = |name: &str| !matches!(name, "bridge" | "none" | "host") && !name.starts_with("container:");
        let at_once = !network.ports.is_empty() || network.networks.iter().any(|at| own(&at.network));
        if at_once {
            let _ = tools::network_down(&id);
        }
        self.status.network = None;
        self.publish();
        if removing {
            remove::retire(&self.store, &self.record);
            remove::anonymous_volumes(&self.store, &self.record);
        } else {
            let mut kept = self.status.clone();
            kept.owner = None;
            let _ = self.store.save_kept(&id, &kept);
        }
        self.tell_exit();
        if removing {
            // The volumes have gone. If this fails the next command finds a directory without a record, and repeats all.
            return remove::clear(&self.store, &self.record, false);
        }
        self.delete();
        if !at_once {
            let _ = tools::network_down(&id);
        }
        let _ = unmount(&self.store, &id);
        let _ = remove::live(&self.store, &id);
        let _ = volume::options::release(&self.store, &self.record);
        Ok(())
    }

    fn delete(&self) {
        let _ = tools::run(tools::runtime(&self.store, &self.record).args([
            "delete",
            "--force",
            &self.record.id,
        ]));
    }
}

/// The kernel keeps the code for the pidfd once the parent (here the machine's init) has reaped the process.
fn exit_code_when_reaped(pidfd: &OwnedFd) -> i32 {
    for _ in 0..100 {
        match sys::pidfd::exit_code(pidfd.as_fd()) {
            Ok(code) => return code,
            Err(err) if err.raw_os_error() == Some(libc::ENODATA) => sleep(Duration::from_millis(5)),
            Err(_) => break,
        }
    }
    255
}
