//! The payload starts: pipes or a terminal, one execution of the runtime.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::container::{State, now};
use contracts::fault::{Fault, Kind};
use contracts::process::Process;
use nix::fcntl::OFlag;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::unistd::pipe2;

use super::{ADOPTED, Phase, Supervisor};
use crate::container::{checkpoints, rootfs};
use crate::events;
use crate::tools;

/// Where a runtime connects to give the terminal's master end.
struct Console {
    listener: UnixListener,
    path: PathBuf,
    _dir: Option<File>,
}

impl Supervisor {
    /// Starts the payload; returns when it runs.
    pub(super) fn launch(&mut self) -> Result<()> {
        match self.images.take() {
            Some(images) => {
                let live = self.store.live(&self.record.id);
                self.execute(|command| {
                    checkpoints::restore(command, &images, &live)?;
                    command.arg("--detach");
                    Ok(())
                })?;
            }
            None => self.execute(|command| {
                command.args(["run", "--detach"]);
                Ok(())
            })?,
        }
        self.began()?;
        events::container(&self.store, &self.record, "start", &[]);
        Ok(())
    }

    /// `shim init`: everything but the program itself, which waits.
    pub(super) fn make_ready(&mut self) -> Result<()> {
        self.execute(|command| {
            command.arg("create");
            Ok(())
        })?;
        self.status.version = 1;
        self.status.state = State::Initialized;
        self.status.error = String::new();
        self.phase = Phase::Ready;
        self.store.save_live(&self.record.id, &self.status)?;
        events::container(&self.store, &self.record, "init", &[]);
        Ok(())
    }

    /// Lets the program begin that was made ready.
    pub(super) fn begin(&mut self) -> Result<()> {
        if self.phase != Phase::Ready {
            bail!("container {} is {} already", self.record.id, self.status.state.word());
        }
        tools::run(tools::runtime(&self.store, &self.record).args(["start", &self.record.id]))?;
        self.status.manually_stopped = false;
        self.began()?;
        if !self.record.host_config.auto_remove {
            self.store.save_kept(&self.record.id, &self.status)?;
        }
        events::container(&self.store, &self.record, "start", &[]);
        Ok(())
    }

    /// One execution of the runtime that makes the container; `verb` adds what it is to do.
    fn execute(&mut self, verb: impl FnOnce(&mut Command) -> Result<()>) -> Result<()> {
        let id = self.record.id.clone();
        let (live, bundle) = (self.store.live(&id), self.store.bundle(&id));
        tools::mount(&bundle)?;
        let mut command = tools::runtime(&self.store, &self.record);
        let runtime_log = live.join("runtime.log");
        let _ = fs::remove_file(&runtime_log);
        command.arg("--log").arg(&runtime_log).args(["--log-format", "json"]);
        verb(&mut command)?;
        command.arg("--bundle").arg(&bundle).arg("--pid-file").arg(live.join("pid"));
        let console = if self.record.config.tty { Some(Console::listen(&live)?) } else { None };
        if let Some(console) = &console {
            command.arg("--console-socket").arg(&console.path);
        }
        command.arg(&id);
        let stderr = self.streams.prepare(&mut command, &live, &self.record)?;
        self.run_runtime(&mut command, stderr, &runtime_log)?;
        if let Some(console) = console {
            self.streams.terminal = Some(console.receive()?);
        }
        let pid: i32 = fs::read_to_string(live.join("pid"))
            .context("read the pid that the runtime wrote")?
            .trim()
            .parse()
            .context("read the pid that the runtime wrote")?;
        self.payload = Some(sys::pidfd::open(pid).context("open the payload")?);
        self.status.process = Some(Process::of(pid).context("look at the payload")?);
        Ok(())
    }

    fn began(&mut self) -> Result<()> {
        self.status.version = 1;
        self.status.state = State::Running;
        self.status.started_at = now();
        self.status.finished_at =
            if self.status.finished_at.is_empty() { String::new() } else { self.status.finished_at.clone() };
        self.status.error = String::new();
        self.status.exit_code = 0;
        self.status.oom_killed = false;
        self.started = Instant::now();
        self.phase = Phase::Running;
        (self.stopping, self.killed) = (false, false);
        self.kill_at = self.last_moment();
        self.streams.watch(&self.epoll)?;
        self.health_began();
        self.memory = None;
        self.watch_memory();
        rootfs::let_go(&self.store, &self.record);
        self.store.save_live(&self.record.id, &self.status)
    }

    /// When `--timeout` kills the payload, counted from its start, which another supervisor may have made.
    fn last_moment(&self) -> Option<Instant> {
        let limit = Duration::from_secs(self.record.run_timeout);
        if limit.is_zero() {
            return None;
        }
        let started = self.status.started_at.parse::<jiff::Timestamp>().ok();
        let ran = started.map(|at| at.duration_until(jiff::Timestamp::now()));
        let ran = ran.and_then(|ran| Duration::try_from(ran).ok()).unwrap_or_default();
        Some(Instant::now() + limit.saturating_sub(ran))
    }

    fn run_runtime(&self, command: &mut Command, stderr: Option<OwnedFd>, log: &Path) -> Result<()> {
        let mut child = command
            .spawn()
            .with_context(|| format!("execute the runtime {}", self.record.runtime.display()))?;
        // Our ends of the payload's pipes close with the command.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = child.wait().context("wait for the runtime")?;
        if status.success() {
            return Ok(());
        }
        let said = stderr.map(read_what_is_there).unwrap_or_default();
        let message = logged_error(log).or_else(|| last_line(&said)).unwrap_or_else(|| status.to_string());
        Err(classify(&message, status.code()))
    }

    /// Takes over a payload whose supervisor was killed: it still writes into the pipes, which its own descriptors
    /// lead to.
    pub(super) fn adopt(&mut self) -> Result<()> {
        let Some(process) = self.status.process else { bail!("nothing to adopt") };
        let Some(pidfd) = process.open().context("open the payload")? else { bail!("the payload has ended") };
        self.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, ADOPTED))?;
        self.payload = Some(pidfd);
        self.streams.adopt(&self.store.live(&self.record.id), &self.record)?;
        if self.status.state == State::Initialized {
            self.phase = Phase::Ready;
            self.publish();
            return Ok(());
        }
        self.streams.watch(&self.epoll)?;
        self.phase = Phase::Running;
        self.kill_at = self.last_moment();
        self.watch_memory();
        rootfs::let_go(&self.store, &self.record);
        self.publish();
        Ok(())
    }
}

impl Console {
    fn listen(live: &Path) -> Result<Self> {
        let direct = live.join("console");
        let _ = fs::remove_file(&direct);
        // Where the path would not fit a socket address, it goes through our descriptor of the directory.
        let (path, dir) = if direct.as_os_str().len() < 100 {
            (direct, None)
        } else {
            let dir = File::open(live).context("open the state directory")?;
            (PathBuf::from(format!("/proc/{}/fd/{}/console", std::process::id(), dir.as_raw_fd())), Some(dir))
        };
        let listener = UnixListener::bind(&path).context("listen for the terminal")?;
        Ok(Self { listener, path, _dir: dir })
    }

    /// The runtime has ended well, so the terminal is in the socket already.
    fn receive(self) -> Result<OwnedFd> {
        self.listener.set_nonblocking(true)?;
        let (socket, _) = self.listener.accept().context("receive the terminal: the runtime sent none")?;
        let (_, fd) = sys::pass_fd::receive(socket.as_fd(), &mut [0; 512]).context("receive the terminal")?;
        let _ = fs::remove_file(&self.path);
        fd.context("receive the terminal: the runtime sent none")
    }
}

/// An empty pipe whose write end can also be read: a payload that outlives us is not killed by SIGPIPE.
pub(super) fn output_pipe() -> Result<(OwnedFd, File)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    let path = format!("/proc/self/fd/{}", write.as_raw_fd());
    let both = File::options().read(true).write(true).open(path).context("open a pipe both ways")?;
    Ok((read, both))
}

fn read_what_is_there(fd: OwnedFd) -> Vec<u8> {
    let mut said = vec![0; 64 << 10];
    let mut file = File::from(fd);
    let length = file.read(&mut said).unwrap_or(0);
    said.truncate(length);
    said
}

/// The last error of the runtime's JSON log: an object a line, or (newer crun) over several.
pub fn logged_error(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let entries =
        serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>().map_while(Result::ok);
    let errors = entries.filter(|entry| matches!(entry["level"].as_str(), Some("error" | "fatal")));
    errors.filter_map(|entry| entry["msg"].as_str().map(str::to_owned)).last()
}

fn last_line(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}

/// 126 and 127 where the runtime says so by its code, or by words as runc and crun do.
pub fn classify(message: &str, code: Option<i32>) -> anyhow::Error {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let kind = match code {
        Some(127) => Some(Kind::CommandNotFound),
        Some(126) => Some(Kind::CommandNotExecutable),
        _ if has(&["executable file not found", "executable file `"]) => Some(Kind::CommandNotFound),
        _ if has(&["exec: "]) && has(&["no such file or directory"]) => Some(Kind::CommandNotFound),
        _ if has(&["open executable: No such file"]) => Some(Kind::CommandNotFound),
        // crun's words for a file that is none.
        _ if has(&["open executable: ", "` is not a regular file"]) => Some(Kind::CommandNotExecutable),
        _ if has(&["exec: ", "exec `"])
            && has(&["permission denied", "Permission denied", "is a directory"]) =>
        {
            Some(Kind::CommandNotExecutable)
        }
        _ => None,
    };
    match kind {
        Some(kind) => Fault::new(kind, message).into(),
        None => anyhow::Error::msg(message.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_either_kind_of_log() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = |text: &str| {
            fs::write(file.path(), text).unwrap();
            logged_error(file.path())
        };
        let lines = "{\"level\":\"error\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\"}\n{\"level\":\"warning\",\"msg\":\"c\"}\n";
        assert_eq!(log(lines).as_deref(), Some("b"));
        assert_eq!(log("{\n  \"msg\": \"d\",\n  \"level\": \"error\"\n}\n").as_deref(), Some("d"));
        assert_eq!(log(&format!("{lines}{{\"level\":\"err")).as_deref(), Some("b"));
        assert_eq!(log("no JSON"), None);
    }

    #[test]
    fn other_runtimes_words() {
        let kind = |message: &str| Kind::of(&classify(message, Some(1)));
        assert_eq!(kind("executable file `x` not found in $PATH: No such file"), Some(Kind::CommandNotFound));
        assert_eq!(kind("open executable: Operation not permitted"), Some(Kind::CommandNotExecutable));
        assert_eq!(kind("the path `/etc` is not a regular file: Op"), Some(Kind::CommandNotExecutable));
        assert_eq!(kind("something else"), None);
    }
}
