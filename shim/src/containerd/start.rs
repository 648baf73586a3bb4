//! `Start` and `Delete`: a container's or an added process's life begins, and what is left of it goes.

use std::fs;

use anyhow::Result;

use super::call::{Answer, Caller, answer};
use super::job::{Job, Work};
use super::jobs::is_gone;
use super::mounts;
use super::proto::Timestamp;
use super::proto::events::{TaskDelete, TaskExecStarted, TaskStart};
use super::proto::task::{DeleteResponse, PidResponse, ProcessRequest};
use super::server::Server;
use super::status::Status;
use super::task::{Exit, Process, State};

/// The code of a process that never came to run.
const NEVER: u32 = 255;

impl Server {
    pub fn start(&mut self, caller: Caller, request: &ProcessRequest) -> Answer {
        let id = &request.id;
        let container = self.container(id)?;
        let init = container.init.state;
        let process = container.process(id, &request.exec_id)?;
        match process.state {
            State::Created => {}
            State::Running | State::Starting | State::Creating => {
                return Err(Status::precondition("cannot start a running process"));
            }
            State::Stopped | State::Deleting => {
                return Err(Status::precondition("cannot start a process that has stopped"));
            }
        }
        if !request.exec_id.is_empty() && (init != State::Running || container.init.exit.is_some()) {
            return Err(Status::precondition(format!("container {id} init process is not running")));
        }
        let restores = request.exec_id.is_empty() && container.checkpoint.is_some();
        let result = match (request.exec_id.is_empty(), restores) {
            (true, false) => self.run_start(caller, id),
            (true, true) => self.run_restore(caller, id),
            (false, _) => self.run_exec(caller, id, &request.exec_id),
        };
        if result.is_ok() {
            self.container(id)?.process(id, &request.exec_id)?.state = State::Starting;
        }
        result
    }

    fn run_start(&mut self, caller: Caller, id: &str) -> Answer {
        let bundle = self.container(id)?.bundle.clone();
        let file = self.job_file(&bundle);
        let job = Job::new(caller, id, Work::Start, file);
        let mut command = self.container(id)?.runtime.command(&job.path(".log.json"));
        command.args(["start", id]);
        self.execute(command, job)
    }

    fn run_restore(&mut self, caller: Caller, id: &str) -> Answer {
        let bundle = self.container(id)?.bundle.clone();
        let file = self.job_file(&bundle);
        let mut job = Job::new(caller, id, Work::Start, file);
        let container = self.container(id)?;
        let mut command = container.runtime.command(&job.path(".log.json"));
        command.args(["restore", "--detach", "--no-subreaper", "--bundle"]).arg(&bundle);
        command.arg("--pid-file").arg(bundle.join("init.pid"));
        let options = &container.runtime.options;
        let work = if options.criu_work_path.is_empty() {
            bundle.join("work")
        } else {
            options.criu_work_path.clone().into()
        };
        command.arg("--work-path").arg(work);
        if options.no_pivot_root {
            command.arg("--no-pivot");
        }
        if let Some(checkpoint) = &container.checkpoint {
            command.arg("--image-path").arg(&checkpoint.path);
            if !checkpoint.parent.is_empty() {
                command.arg("--parent-path").arg(&checkpoint.parent);
            }
        }
        let _ = fs::remove_file(bundle.join("init.pid"));
        self.give_streams(&mut command, &mut job, "")?;
        command.arg(id);
        self.execute(command, job)
    }

    fn run_exec(&mut self, caller: Caller, id: &str, exec: &str) -> Answer {
        let bundle = self.container(id)?.bundle.clone();
        let file = self.job_file(&bundle);
        let mut job = Job::new(caller, id, Work::Exec(exec.into()), file);
        let container = self.container(id)?;
        fs::write(job.path(".json"), &container.process(id, exec)?.spec)?;
        let mut command = container.runtime.command(&job.path(".log.json"));
        command.args(["exec", "--detach", "--process"]).arg(job.path(".json"));
        command.arg("--pid-file").arg(job.path(".pid"));
        self.give_streams(&mut command, &mut job, exec)?;
        command.arg(id);
        self.execute(command, job)
    }

    /// `runtime start` or `restore` has ended.
    pub fn started(&mut self, mut job: Job, result: Result<(), String>) -> Answer {
        let id = job.container.clone();
        let container = self.container(&id)?;
        let restored = container.checkpoint.is_some() && container.init.pid == 0;
        let result = match result {
            Ok(()) if restored => self.take_over(&mut job, &id).map(drop),
            Ok(()) => Ok(()),
            Err(message) => Err(anyhow::anyhow!("OCI runtime start failed: {message}")),
        };
        let container = self.container(&id)?;
        let pid = container.init.pid;
        let held = container.init.held.take();
        if let Err(err) = result {
            container.init.state = State::Created;
            if let Some(exit) = held {
                self.ended(&id, "", exit);
            }
            return Err(err);
        }
        container.init.state = State::Running;
        let event = TaskStart { container_id: id.clone(), pid: container.init.pid() };
        let response = PidResponse { pid: event.pid };
        self.events.publish(&self.epoll, &event);
        if let Some(exit) = held.or_else(|| self.early.remove(&pid)) {
            self.ended(&id, "", exit);
        }
        answer(&response)
    }

    /// `runtime exec` has ended.
    pub fn exec_started(&mut self, mut job: Job, exec: &str, result: Result<(), String>) -> Answer {
        let id = job.container.clone();
        let result = match result {
            Ok(()) => job.pid(&job.path(".pid")),
            Err(message) => Err(anyhow::anyhow!("OCI runtime exec failed: {message}")),
        };
        let result = result.and_then(|pid| {
            self.connect_streams(&mut job, exec).inspect_err(|_| Self::kill_stray(pid)).map(|()| pid)
        });
        let process = self.container(&id)?.process(&id, exec)?;
        process.spec = Vec::new();
        let pid = match result {
            Ok(pid) => pid,
            Err(err) => {
                process.state = State::Stopped;
                let exit = Exit { code: NEVER, at: Timestamp::now() };
                process.exit = Some(exit);
                let waiters = std::mem::take(&mut process.waiters);
                self.answer_waiters(waiters, exit);
                self.settle(&id);
                return Err(err);
            }
        };
        process.pid = pid;
        process.state = State::Running;
        let response = PidResponse { pid: process.pid() };
        let event = TaskExecStarted { container_id: id.clone(), exec_id: exec.into(), pid: response.pid };
        self.events.publish(&self.epoll, &event);
        if let Some(exit) = self.early.remove(&pid) {
            self.ended(&id, exec, exit);
        }
        answer(&response)
    }

    pub fn delete(&mut self, caller: Caller, request: &ProcessRequest) -> Answer {
        let id = &request.id;
        let container = self.container(id)?;
        let paused = container.paused;
        let process = container.process(id, &request.exec_id)?;
        match process.state {
            State::Stopped | State::Created => {}
            State::Deleting => return Err(Status::precondition("the process is being deleted")),
            _ if paused => return Err(Status::precondition("cannot delete a paused process")),
            _ => return Err(Status::precondition("cannot delete a running process")),
        }
        if !request.exec_id.is_empty() {
            let container = self.container(id)?;
            let Some(mut process) = container.execs.remove(&request.exec_id) else {
                return answer(&gone(None));
            };
            self.drop_pumps(&mut process);
            return answer(&gone(Some(&process)));
        }
        if container.init.pid == 0 {
            // It was to be restored, and never was.
            return self.forget(id);
        }
        container.init.state = State::Deleting;
        let bundle = container.bundle.clone();
        let file = self.job_file(&bundle);
        let job = Job::new(caller, id, Work::Delete, file);
        let container = self.container(id)?;
        let mut command = container.runtime.command(&job.path(".log.json"));
        command.arg("delete");
        if container.init.is_alive() {
            // Created and never started: runtimes want to be told that this is meant.
            command.arg("--force");
        }
        command.arg(id);
        let result = self.execute(command, job);
        if result.is_err() {
            self.container(id)?.init.state = State::Stopped;
        }
        result
    }

    /// `runtime delete` has ended.
    pub fn deleted(&mut self, job: &Job, result: Result<(), String>) -> Answer {
        let id = &job.container;
        // Where it has been deleted already, there is nothing left to do.
        if let Err(message) = result
            && !is_gone(&message)
        {
            let init = &mut self.container(id)?.init;
            init.state = if init.is_alive() { State::Created } else { State::Stopped };
            anyhow::bail!("failed to delete task: {message}");
        }
        if self.container(id)?.init.is_alive() {
            // Dead, but its end may not have been told yet.
            let pid = self.container(id)?.init.pid;
            Self::kill_stray(pid);
            self.reap_one(pid);
        }
        self.forget(id)
    }

    /// The container is gone: streams, mounts, the last event.
    fn forget(&mut self, id: &str) -> Answer {
        let Some(mut container) = self.containers.remove(id) else { return answer(&gone(None)) };
        self.ooms.remove(id);
        self.drop_pumps(&mut container.init);
        for mut exec in std::mem::take(&mut container.execs).into_values() {
            self.drop_pumps(&mut exec);
        }
        let unmounted = mounts::unmount(&container.rootfs());
        let response = gone(Some(&container.init));
        let event = TaskDelete {
            container_id: id.into(),
            pid: response.pid,
            exit_status: response.exit_status,
            exited_at: response.exited_at,
            id: String::new(),
        };
        self.events.publish(&self.epoll, &event);
        unmounted?;
        answer(&response)
    }
}

fn gone(process: Option<&Process>) -> DeleteResponse {
    let exit = process.and_then(|process| process.exit);
    DeleteResponse {
        pid: process.map_or(0, Process::pid),
        exit_status: exit.map_or(0, |exit| exit.code),
        exited_at: exit.map(|exit| exit.at),
    }
}
