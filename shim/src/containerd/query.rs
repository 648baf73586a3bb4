//! `State`, `Pids`, `Stats`, `Wait`, `Connect`: what there is to know.

use prost::Message as _;

use super::call::{Answer, Caller, answer};
use super::proto::Any;
use super::proto::options::ProcessDetails;
use super::proto::task::{
    ConnectResponse, PidsResponse, ProcessInfo, ProcessRequest, StateResponse, StatsResponse, TaskRequest,
    WaitResponse,
};
use super::server::Server;
use super::status::Status;
use super::stdio::Wanted;
use super::task::State;
use crate::cgroup::Cgroup;

/// `containerd.v1.types.Status`.
const CREATED: i32 = 1;
const RUNNING: i32 = 2;
const STOPPED: i32 = 3;
const PAUSED: i32 = 4;
const PAUSING: i32 = 5;

impl Server {
    pub fn state(&mut self, request: &ProcessRequest) -> Answer {
        let pausing =
            self.jobs.values().any(|job| job.container == request.id && job.work == super::job::Work::Pause);
        let container = self.container(&request.id)?;
        let paused = container.paused && request.exec_id.is_empty();
        let bundle = container.bundle.to_string_lossy().into_owned();
        let process = container.process(&request.id, &request.exec_id)?;
        let status = match process.state {
            State::Creating | State::Created | State::Starting => CREATED,
            State::Stopped | State::Deleting => STOPPED,
            State::Running if paused => PAUSED,
            State::Running if pausing => PAUSING,
            State::Running => RUNNING,
        };
        let Wanted { stdin, stdout, stderr, terminal } = process.wanted.clone();
        let id = if request.exec_id.is_empty() { &request.id } else { &request.exec_id };
        answer(&StateResponse {
            id: id.clone(),
            bundle,
            pid: process.pid(),
            status,
            stdin,
            stdout,
            stderr,
            terminal,
            exit_status: process.exit.map_or(0, |exit| exit.code),
            exited_at: process.exit.map(|exit| exit.at),
            exec_id: request.exec_id.clone(),
        })
    }

    pub fn pids(&mut self, request: &TaskRequest) -> Answer {
        let container = self.container(&request.id)?;
        let pids = container.cgroup.as_ref().map(Cgroup::pids).unwrap_or_default();
        let processes = pids.into_iter().map(|pid| {
            let exec = container.execs.iter().find(|(_, exec)| exec.is_alive() && exec.pid() == pid);
            let info = exec.map(|(exec_id, _)| Any {
                type_url: "containerd.runc.v1.ProcessDetails".into(),
                value: ProcessDetails { exec_id: exec_id.clone() }.encode_to_vec(),
            });
            ProcessInfo { pid, info }
        });
        let response = PidsResponse { processes: processes.collect() };
        answer(&response)
    }

    pub fn stats(&mut self, request: &TaskRequest) -> Answer {
        let cgroup = self.container(&request.id)?.cgroup.as_ref();
        let stats = cgroup.and_then(Cgroup::stats);
        let stats = stats.ok_or_else(|| Status::not_found("cgroup does not exist: not found"))?;
        let (name, value) = stats;
        answer(&StatsResponse { stats: Some(Any { type_url: name.into(), value }) })
    }

    pub fn wait(&mut self, caller: Caller, request: &ProcessRequest) -> Answer {
        let process = self.container(&request.id)?.process(&request.id, &request.exec_id)?;
        match process.exit {
            Some(exit) => answer(&WaitResponse { exit_status: exit.code, exited_at: Some(exit.at) }),
            None => {
                process.waiters.push(caller);
                Ok(None)
            }
        }
    }

    pub fn connect(&mut self, request: &TaskRequest) -> Answer {
        // Asked before there is a container, too.
        let task_pid = self.container(&request.id).map_or(0, |container| container.init.pid());
        answer(&ConnectResponse { shim_pid: std::process::id(), task_pid, version: String::new() })
    }
}
