//! Children end: runtimes, which are answered; containers' processes, which are told of in order; and strays.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::call::{Caller, answer};
use super::proto::Timestamp;
use super::proto::events::TaskExit;
use super::proto::task::WaitResponse;
use super::server::Server;
use super::task::{Exit, State};
use crate::cgroup::Cgroup;

impl Server {
    /// Everybody who has ended.
    pub fn reap(&mut self) {
        loop {
            match ended(waitpid(None, Some(WaitPidFlag::WNOHANG))) {
                Ok(Some((pid, code))) => self.on_exit(pid, code),
                Ok(None) | Err(Errno::ECHILD) => return,
                Err(_) => {}
            }
        }
    }

    /// A child that is about to end.
    pub fn reap_one(&mut self, pid: i32) {
        loop {
            match ended(waitpid(Pid::from_raw(pid), None)) {
                Ok(Some((pid, code))) => return self.on_exit(pid, code),
                Err(Errno::EINTR) => {}
                _ => return,
            }
        }
    }

    fn on_exit(&mut self, pid: i32, code: u32) {
        if self.events.on_child(&self.epoll, pid, code) {
            return;
        }
        if let Some(job) = self.jobs.remove(&pid) {
            self.finish(job, code);
            if self.jobs.is_empty() {
                self.early.clear();
            }
            return;
        }
        let exit = Exit { code, at: Timestamp::now() };
        let Some((id, exec)) = self.whose(pid) else {
            if !self.jobs.is_empty() {
                self.early.insert(pid, exit);
            }
            return;
        };
        if let Some(container) = self.containers.get_mut(&id)
            && let Ok(process) = container.process(&id, &exec)
            && process.state == State::Starting
        {
            // The start is told first.
            process.held = Some(exit);
            return;
        }
        self.ended(&id, &exec, exit);
    }

    /// The process with this pid, of those that live.
    fn whose(&self, pid: i32) -> Option<(String, String)> {
        self.containers.iter().find_map(|(id, container)| {
            if container.init.pid == pid && container.init.is_alive() {
                return Some((id.clone(), String::new()));
            }
            let exec = container.execs.iter().find(|(_, exec)| exec.pid == pid && exec.is_alive())?;
            Some((id.clone(), exec.0.clone()))
        })
    }

    /// A process has ended. The first one's end is told last: its container's others end with it.
    pub fn ended(&mut self, id: &str, exec: &str, exit: Exit) {
        if exec.is_empty() {
            let Some(container) = self.containers.get_mut(id) else { return };
            if !container.own_pids
                && let Some(cgroup) = &container.cgroup
            {
                kill_all(cgroup);
            }
            if container.has_execs() {
                container.init.held = Some(exit);
                container.last = Some(exit);
                return;
            }
        }
        self.tell(id, exec, exit);
        self.settle(id);
    }

    /// Tells of the container's end if it waited for the last of the others.
    pub fn settle(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.has_execs() {
            return;
        }
        if let Some(exit) = container.last.take() {
            container.init.held = None;
            self.tell(id, "", exit);
        }
    }

    fn tell(&mut self, id: &str, exec: &str, exit: Exit) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Ok(process) = container.process(id, exec) else { return };
        process.exit = Some(exit);
        if process.state != State::Deleting {
            process.state = State::Stopped;
        }
        let event = TaskExit {
            container_id: id.into(),
            id: if exec.is_empty() { id.into() } else { exec.into() },
            pid: process.pid(),
            exit_status: exit.code,
            exited_at: Some(exit.at),
        };
        let waiters = std::mem::take(&mut process.waiters);
        if exec.is_empty() {
            container.paused = false;
        }
        self.events.publish(&self.epoll, &event);
        self.answer_waiters(waiters, exit);
    }

    pub fn answer_waiters(&mut self, waiters: Vec<Caller>, exit: Exit) {
        for caller in waiters {
            let response = WaitResponse { exit_status: exit.code, exited_at: Some(exit.at) };
            self.give(caller, answer(&response));
        }
    }
}

/// Pid and code of a child that has ended; 128+n for a signal.
fn ended(status: nix::Result<WaitStatus>) -> nix::Result<Option<(i32, u32)>> {
    Ok(match status? {
        WaitStatus::Exited(pid, code) => Some((pid.as_raw(), u32::try_from(code).unwrap_or(255))),
        WaitStatus::Signaled(pid, signal, _) => Some((pid.as_raw(), 128 + (signal as i32).unsigned_abs())),
        WaitStatus::StillAlive => None,
        // Stopped or traced: not asked for.
        _ => return Err(Errno::EINTR),
    })
}

/// Everything in a cgroup: processes of a container that shares its pid namespace outlive its first one.
fn kill_all(cgroup: &Cgroup) {
    if let Cgroup::V2(dir) = cgroup
        && std::fs::write(dir.join("cgroup.kill"), "1").is_ok()
    {
        return;
    }
    for pid in cgroup.pids() {
        if let Ok(pid @ 1..) = i32::try_from(pid) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
