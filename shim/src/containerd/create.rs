//! `Create`, `Exec`: a container is made, a process is described.

use std::fs;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::call::{Answer, Caller, answer, done};
use super::console::Console;
use super::job::{Job, Work};
use super::mounts;
use super::proto::events::{TaskCreate, TaskExecAdded, TaskIo};
use super::proto::task::{CreateTaskRequest, ExecProcessRequest, PidResponse};
use super::pump::Pump;
use super::runtime::{self, Runtime};
use super::server::{Server, complain};
use super::status::{Code, Status};
use super::stdio::{self, Ends, Owner, Wanted};
use super::task::{Checkpoint, Container, Process, State, has_own_pids};
use crate::cgroup::Cgroup;

impl Server {
    pub fn create(&mut self, caller: Caller, request: CreateTaskRequest) -> Answer {
        contracts::name::check("container", &request.id)
            .map_err(|err| Status::error(Code::InvalidArgument, err.to_string()))?;
        if self.containers.contains_key(&request.id) {
            return Err(Status::error(
                Code::AlreadyExists,
                format!("container {}: already exists", request.id),
            ));
        }
        let id = request.id.clone();
        let container = self.prepare(request)?;
        let rootfs = container.rootfs();
        self.containers.insert(id.clone(), container);
        let result = if self.container_at_all(&id)?.checkpoint.is_some() {
            // The images are read at the start.
            self.announce(&id, 0);
            answer(&PidResponse { pid: 0 })
        } else {
            self.run_create(caller, &id)
        };
        if result.is_err() {
            self.containers.remove(&id);
            let _ = mounts::unmount(&rootfs);
        }
        result
    }

    /// Everything up to the runtime: options, mounts.
    fn prepare(&self, request: CreateTaskRequest) -> Result<Container> {
        let bundle = std::path::PathBuf::from(&request.bundle);
        let options = runtime::options(request.options.as_ref())?;
        let runtime = Runtime::new(options, &self.flags.namespace, self.flags.debug);
        let own_pids = has_own_pids(&bundle)?;
        runtime.remember(&bundle)?;
        let rootfs = bundle.join("rootfs");
        if !request.rootfs.is_empty() {
            match fs::create_dir(&rootfs) {
                Err(err) if err.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(err).with_context(|| format!("make {}", rootfs.display()));
                }
                _ => {}
            }
            mounts::make(&request.rootfs, &rootfs)?;
        }
        let CreateTaskRequest { stdin, stdout, stderr, terminal, rootfs: mounts, .. } = request;
        let wanted = Wanted { stdin, stdout, stderr, terminal };
        let checkpoint = (!request.checkpoint.is_empty())
            .then(|| Checkpoint { path: request.checkpoint.into(), parent: request.parent_checkpoint });
        let state = if checkpoint.is_some() { State::Created } else { State::Creating };
        Ok(Container {
            bundle,
            mounts,
            runtime,
            init: Process::new(state, wanted),
            execs: std::collections::BTreeMap::new(),
            cgroup: None,
            paused: false,
            own_pids,
            checkpoint,
            last: None,
        })
    }

    fn run_create(&mut self, caller: Caller, id: &str) -> Answer {
        let bundle = self.container_at_all(id)?.bundle.clone();
        let file = self.job_file(&bundle);
        let mut job = Job::new(caller, id, Work::Create, file);
        let _ = fs::remove_file(bundle.join("init.pid"));
        let container = self.container_at_all(id)?;
        let mut command = container.runtime.command(&job.path(".log.json"));
        command.arg("create").arg("--bundle").arg(&bundle).arg("--pid-file").arg(bundle.join("init.pid"));
        let options = &container.runtime.options;
        for (wanted, flag) in
            [(options.no_pivot_root, "--no-pivot"), (options.no_new_keyring, "--no-new-keyring")]
        {
            if wanted {
                command.arg(flag);
            }
        }
        self.give_streams(&mut command, &mut job, "")?;
        command.arg(id);
        self.execute(command, job)
    }

    /// The runtime's streams or its console socket, as the process's client wants them.
    pub fn give_streams(
        &mut self,
        command: &mut std::process::Command,
        job: &mut Job,
        exec: &str,
    ) -> Result<()> {
        let serial = self.serial();
        let namespace = self.flags.namespace.clone();
        let container = self.container_at_all(&job.container)?;
        let (bundle, options) = (container.bundle.clone(), container.runtime.options.clone());
        let wanted = container.process(&job.container, exec)?.wanted.clone();
        let id = if exec.is_empty() { &job.container } else { exec };
        let owner = Owner { namespace: &namespace, id, uid: options.io_uid, gid: options.io_gid };
        job.ends = wanted.prepare(command, &owner)?;
        if wanted.terminal {
            let console = Console::listen(&bundle, serial)?;
            command.arg("--console-socket").arg(console.path());
            job.console = Some(console);
        }
        Ok(())
    }

    /// `runtime create` has ended.
    pub fn created(&mut self, mut job: Job, result: Result<(), String>) -> Answer {
        let id = job.container.clone();
        let result = match result {
            Ok(()) => self.take_over(&mut job, &id),
            Err(message) => Err(anyhow::anyhow!("OCI runtime create failed: {message}")),
        };
        let pid = match result {
            Ok(pid) => pid,
            Err(err) => {
                self.abandon(&id, &job);
                return Err(err);
            }
        };
        self.announce(&id, pid);
        if let Some(exit) = self.early.remove(&pid) {
            self.ended(&id, "", exit);
        }
        answer(&PidResponse { pid: u32::try_from(pid).unwrap_or(0) })
    }

    pub fn take_over(&mut self, job: &mut Job, id: &str) -> Result<i32> {
        let bundle = self.container_at_all(id)?.bundle.clone();
        let pid = job.pid(&bundle.join("init.pid"))?;
        self.connect_streams(job, "")?;
        let token = self.oom_token();
        let container = self.container_at_all(id)?;
        container.init.pid = pid;
        container.init.state = State::Created;
        container.cgroup = Cgroup::of(pid);
        if let Some(cgroup) = container.cgroup.clone()
            && let Err(err) = self.ooms.add(&self.epoll, token, id, &cgroup)
        {
            complain("warning", &format!("container {id}: {}", contracts::report::one_line(&err)));
        }
        Ok(pid)
    }

    /// A creation that failed leaves nothing.
    fn abandon(&mut self, id: &str, job: &Job) {
        let Some(mut container) = self.containers.remove(id) else { return };
        self.drop_pumps(&mut container.init);
        if container.init.pid > 0 || job.pid(&container.bundle.join("init.pid")).is_ok() {
            let log = job.path(".log.json");
            let mut command = container.runtime.command(&log);
            let _ = command.args(["delete", "--force", id]).status();
        }
        if let Err(err) = mounts::unmount(&container.rootfs()) {
            complain("warning", &contracts::report::one_line(&err));
        }
    }

    /// The event of a container that is there now.
    fn announce(&mut self, id: &str, pid: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Wanted { stdin, stdout, stderr, terminal } = container.init.wanted.clone();
        let event = TaskCreate {
            container_id: id.into(),
            bundle: container.bundle.to_string_lossy().into_owned(),
            rootfs: std::mem::take(&mut container.mounts),
            io: Some(TaskIo { stdin, stdout, stderr, terminal }),
            checkpoint: container
                .checkpoint
                .as_ref()
                .map(|from| from.path.to_string_lossy().into_owned())
                .unwrap_or_default(),
            pid: u32::try_from(pid).unwrap_or(0),
        };
        self.events.publish(&self.epoll, &event);
    }

    /// Moves a process's streams from now on.
    pub fn connect_streams(&mut self, job: &mut Job, exec: &str) -> Result<()> {
        let console = job.console.take().map(|console| console.receive()).transpose()?;
        let id = job.container.clone();
        let wanted = self.container_at_all(&id)?.process(&id, exec)?.wanted.clone();
        let Ends { stdin, stdout, stderr } = std::mem::take(&mut job.ends);
        let mut pumps = Vec::new();
        let [out, err] = wanted.sinks()?;
        let terminal = console.as_ref();
        let from_terminal = |fd: &std::os::fd::OwnedFd| stdio::duplicate(fd);
        let stdout = stdout.map_or_else(|| terminal.map(from_terminal).transpose(), |fd| Ok(Some(fd)))?;
        for (from, sink) in [(stdout, out), (stderr, err)] {
            if let (Some(from), Some(sink)) = (from, sink) {
                let fast = sink.reader.is_some() && !wanted.terminal;
                let token = self.pump_token();
                let mut pump = Pump::start(&self.epoll, token, (from, sink.to), fast)?;
                sink.reader.into_iter().for_each(|reader| pump.keep(reader));
                self.pumps.insert(token, pump);
                pumps.push(token);
            }
        }
        let to = stdin.map_or_else(|| terminal.map(from_terminal).transpose(), |fd| Ok(Some(fd)))?;
        let (mut keeper, mut feed) = (None, None);
        if let Some(to) = to
            && let Some((from, writer)) = wanted.source()?
        {
            let token = self.pump_token();
            let pump = Pump::start(&self.epoll, token, (from, to), !wanted.terminal)?;
            self.pumps.insert(token, pump);
            feed = Some(token);
            keeper = Some(writer);
        }
        let process = self.container_at_all(&id)?.process(&id, exec)?;
        (process.console, process.stdin, process.pumps) = (console, keeper, pumps);
        process.feed = feed;
        Ok(())
    }

    /// `Exec`: what is to run is kept until `Start`.
    pub fn exec(&mut self, request: ExecProcessRequest) -> Answer {
        let container = self.container(&request.id)?;
        let name = &request.exec_id;
        if name.is_empty() || container.execs.contains_key(name) {
            return Err(Status::error(Code::AlreadyExists, format!("id {name}: already exists")));
        }
        if container.paused {
            return Err(Status::precondition("cannot exec in a paused state"));
        }
        if !matches!(container.init.state, State::Created | State::Starting | State::Running) {
            return Err(Status::precondition("cannot exec in a stopped state"));
        }
        let spec = request.spec.map(|spec| spec.value).unwrap_or_default();
        let mut spec: serde_json::Value = serde_json::from_slice(&spec)
            .map_err(|err| Status::error(Code::InvalidArgument, format!("read the process: {err}")))?;
        let fields = spec.as_object_mut();
        let fields =
            fields.ok_or_else(|| Status::error(Code::InvalidArgument, "the process is no object"))?;
        fields.insert("terminal".into(), request.terminal.into());
        let ExecProcessRequest { stdin, stdout, stderr, terminal, .. } = request;
        let mut process = Process::new(State::Created, Wanted { stdin, stdout, stderr, terminal });
        process.spec = serde_json::to_vec(&spec)?;
        container.execs.insert(request.exec_id.clone(), process);
        let event = TaskExecAdded { container_id: request.id, exec_id: request.exec_id };
        self.events.publish(&self.epoll, &event);
        done()
    }

    /// A container that clients know of.
    pub fn container(&mut self, id: &str) -> Result<&mut Container> {
        let known = self.containers.get_mut(id).filter(|container| container.init.state != State::Creating);
        known.ok_or_else(|| Status::not_found(format!("container {id}: not found")))
    }

    /// Also one that is being made.
    fn container_at_all(&mut self, id: &str) -> Result<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| Status::not_found(format!("container {id}: not found")))
    }

    /// A process that cannot be looked after is not left alone.
    pub fn kill_stray(pid: i32) {
        if pid > 0 {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Ends what still moves, after all that is there.
    pub fn drop_pumps(&mut self, process: &mut Process) {
        for token in process.pumps.drain(..) {
            if let Some(pump) = self.pumps.get_mut(&token) {
                pump.let_go();
                if !pump.go_on(&self.epoll) {
                    self.end_pump(token);
                }
            }
        }
        // Nobody reads its stdin any more.
        if let Some(token) = process.feed.take() {
            self.end_pump(token);
        }
        (process.stdin, process.console) = (None, None);
    }
}
