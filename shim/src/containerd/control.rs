//! `Kill`, `Pause`, `Resume`, `Update`, `Checkpoint`, `ResizePty`, `CloseIO`.

use std::fs;
use std::os::fd::AsFd as _;

use prost::Message as _;

use super::call::{Answer, Caller, done};
use super::job::{Job, Work};
use super::proto::options::CheckpointOptions;
use super::proto::task::{
    CheckpointTaskRequest, CloseIoRequest, KillRequest, ResizePtyRequest, TaskRequest, UpdateTaskRequest,
};
use super::server::Server;
use super::status::{Code, Status};
use super::task::State;

impl Server {
    pub fn kill(&mut self, caller: Caller, request: &KillRequest) -> Answer {
        let id = &request.id;
        let container = self.container(id)?;
        let paused = container.paused;
        let process = container.process(id, &request.exec_id)?;
        if process.exit.is_some() || process.held.is_some() {
            return Err(Status::not_found("process already finished: not found"));
        }
        if process.pid <= 0 {
            return Err(Status::precondition("process not created"));
        }
        let signal = i32::try_from(request.signal).unwrap_or(-1);
        if request.exec_id.is_empty() && (request.all || paused) {
            // The runtime knows how to reach all of them, and how to wake what is frozen.
            let verb = request.signal.to_string();
            let mut words = vec!["kill"];
            if request.all {
                words.push("--all");
            }
            words.extend([id.as_str(), verb.as_str()]);
            return self.run_verb(caller, id, Work::Kill, &words);
        }
        // A child of ours that has not been reaped: the pid is nobody else's.
        let pid = process.pid;
        match send(pid, signal) {
            Ok(()) => done(),
            Err(libc::ESRCH) => Err(Status::not_found("process already finished: not found")),
            Err(libc::EINVAL) => Err(Status::error(
                Code::InvalidArgument,
                format!("no signal {}: invalid argument", request.signal),
            )),
            Err(code) => Err(std::io::Error::from_raw_os_error(code).into()),
        }
    }

    fn run_verb(&mut self, caller: Caller, id: &str, work: Work, words: &[&str]) -> Answer {
        let bundle = self.container(id)?.bundle.clone();
        let file = self.job_file(&bundle);
        let job = Job::new(caller, id, work, file);
        let mut command = self.container(id)?.runtime.command(&job.path(".log.json"));
        command.args(words);
        self.execute(command, job)
    }

    pub fn pause(&mut self, caller: Caller, request: &TaskRequest, pause: bool) -> Answer {
        let container = self.container(&request.id)?;
        if container.init.state != State::Running {
            let verb = if pause { "pause" } else { "resume" };
            return Err(Status::precondition(format!("cannot {verb} a container that is not running")));
        }
        if container.paused == pause {
            let state = if pause { "paused" } else { "running" };
            return Err(Status::precondition(format!("the container is {state} already")));
        }
        let (work, verb) = if pause { (Work::Pause, "pause") } else { (Work::Resume, "resume") };
        self.run_verb(caller, &request.id, work, &[verb, &request.id])
    }

    pub fn update(&mut self, caller: Caller, request: &UpdateTaskRequest) -> Answer {
        let container = self.container(&request.id)?;
        if matches!(container.init.state, State::Stopped | State::Deleting) {
            return Err(Status::precondition("cannot update a stopped container"));
        }
        let bundle = container.bundle.clone();
        let file = self.job_file(&bundle);
        let job = Job::new(caller, &request.id, Work::Update, file);
        let resources = request.resources.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
        fs::write(job.path(".json"), resources)?;
        let mut command = self.container(&request.id)?.runtime.command(&job.path(".log.json"));
        command.args(["update", "--resources"]).arg(job.path(".json")).arg(&request.id);
        self.execute(command, job)
    }

    pub fn checkpoint(&mut self, caller: Caller, request: &CheckpointTaskRequest) -> Answer {
        let container = self.container(&request.id)?;
        if container.init.state != State::Running {
            return Err(Status::precondition("cannot checkpoint a container that is not running"));
        }
        let options = match &request.options {
            Some(any) => CheckpointOptions::decode(any.value.as_slice())
                .map_err(|err| Status::error(Code::InvalidArgument, format!("read the options: {err}")))?,
            None => CheckpointOptions::default(),
        };
        let image = if options.image_path.is_empty() { &request.path } else { &options.image_path };
        let bundle = container.bundle.clone();
        let work = match options.work_path.as_str() {
            "" => bundle.join("work").join("criu-work"),
            path => path.into(),
        };
        let file = self.job_file(&bundle);
        let job = Job::new(caller, &request.id, Work::Checkpoint(image.clone()), file);
        let mut command = self.container(&request.id)?.runtime.command(&job.path(".log.json"));
        command.arg("checkpoint").arg("--image-path").arg(image).arg("--work-path").arg(work);
        for (wanted, flag) in [
            (!options.exit, "--leave-running"),
            (options.open_tcp, "--tcp-established"),
            (options.external_unix_sockets, "--ext-unix-sk"),
            (options.terminal, "--shell-job"),
            (options.file_locks, "--file-locks"),
        ] {
            if wanted {
                command.arg(flag);
            }
        }
        for namespace in &options.empty_namespaces {
            command.arg("--empty-ns").arg(namespace);
        }
        for (flag, value) in
            [("--manage-cgroups-mode", &options.cgroups_mode), ("--parent-path", &options.parent_path)]
        {
            if !value.is_empty() {
                command.arg(flag).arg(value);
            }
        }
        command.arg(&request.id);
        self.execute(command, job)
    }

    pub fn resize(&mut self, request: &ResizePtyRequest) -> Answer {
        let process = self.container(&request.id)?.process(&request.id, &request.exec_id)?;
        let size = (u16::try_from(request.height), u16::try_from(request.width));
        let (Ok(rows), Ok(columns)) = size else {
            return Err(Status::error(Code::InvalidArgument, "a terminal is not that large"));
        };
        if let Some(console) = &process.console {
            sys::pty::set_size(console.as_fd(), (rows, columns))?;
        }
        done()
    }

    pub fn close_io(&mut self, request: &CloseIoRequest) -> Answer {
        let process = self.container(&request.id)?.process(&request.id, &request.exec_id)?;
        if request.stdin {
            process.stdin = None;
        }
        done()
    }
}

/// Any signal, also a real-time one, which the usual types have no name for.
fn send(pid: i32, signal: i32) -> Result<(), i32> {
    let fd = sys::pidfd::open(pid).map_err(|err| err.raw_os_error().unwrap_or(libc::EIO))?;
    sys::pidfd::send_signal(&fd, signal).map_err(|err| err.raw_os_error().unwrap_or(libc::EIO))
}
