//! A `criu swrk` process and the conversation with it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use sys::clone::{CloneOptions, Cloned};

use super::message::{Message, Value, field};
use crate::init::channel::{self, Report};

/// The program, looked for in PATH.
const PROGRAM: &str = "criu";
/// How many seconds CRIU may say nothing after the process that it restores has begun to end.
const PATIENCE: u32 = 10;
/// More than any answer of CRIU's takes.
const LONGEST: usize = 40 << 10;

const REQ_TYPE: u32 = 1;
const REQ_OPTS: u32 = 2;
const REQ_NOTIFY_SUCCESS: u32 = 3;
const REQ_FEATURES: u32 = 5;
const RESP_TYPE: u32 = 1;
const RESP_SUCCESS: u32 = 2;
const RESP_RESTORE: u32 = 4;
const RESP_NOTIFY: u32 = 5;
const RESP_ERRNO: u32 = 7;
const RESP_FEATURES: u32 = 8;
const RESP_ERRMSG: u32 = 9;

/// What is asked of CRIU (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Dump the processes.
    Dump = 1,
    /// Restore them.
    Restore = 2,
    /// Dump the memory only.
    PreDump = 4,
    /// Which abilities there are.
    FeatureCheck = 9,
}

/// `PF_EXITING` of the kernel.
const EXITING: u32 = 4;

/// `criu_req_type` of notifications.
const NOTIFY: i32 = 6;

/// A field of `criu_features`.
#[derive(Debug, Clone, Copy)]
pub enum Feature {
    /// Tracking of changed memory.
    MemTrack = 1,
    /// Memory that follows later.
    LazyPages = 2,
}

/// A running CRIU.
#[derive(Debug)]
pub struct Service {
    socket: OwnedFd,
    pidfd: OwnedFd,
    pid: i32,
    ended: bool,
}

/// What CRIU tells while it works.
#[derive(Debug)]
pub struct Notice {
    /// `post-restore`, `setup-namespaces`, …
    pub script: String,
    /// The process that it is about.
    pub pid: i32,
    /// A descriptor that came along.
    pub fd: Option<OwnedFd>,
}

impl Service {
    /// Starts CRIU; `prepare` runs in its process just before it is executed.
    ///
    /// # Errors
    /// A fault of kind `Unsupported` where there is no CRIU; what `prepare` says.
    pub fn start(options: CloneOptions<'_>, prepare: impl FnOnce() -> Result<()>) -> Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .context("make a socket pair")?;
        let (listen, tell) = channel::pair()?;
        match sys::clone::clone(options).context("make criu's process")? {
            Cloned::Child => {
                drop(listen);
                let err = prepare().and_then(|()| execute(&theirs)).err();
                let err = err.unwrap_or_else(|| anyhow::anyhow!("criu was not executed"));
                let _ = tell.tell(&Report::Failed(err));
                sys::clone::exit_now(1)
            }
            Cloned::Parent { pidfd, pid } => {
                drop((theirs, tell));
                let service = Self { socket: ours, pidfd, pid, ended: false };
                match listen.receive()? {
                    Report::Closed => Ok(service),
                    Report::Failed(err) => Err(err),
                    _ => bail!("criu's process sent a wrong packet"),
                }
            }
        }
    }

    /// Asks for something and returns the answer's pid (of a restored process), after telling `notice` each step.
    ///
    /// # Errors
    /// CRIU fails, or `notice` does.
    pub fn ask(
        &self,
        kind: Kind,
        options: &Message,
        mut notice: impl FnMut(Notice) -> Result<()>,
    ) -> Result<i32> {
        let mut request = Message::default();
        request.number(REQ_TYPE, kind as i64).text(REQ_OPTS, options.bytes());
        self.send(&request)?;
        // The first process that CRIU tells of is the container's.
        let mut first = None;
        loop {
            let (answer, fd) = self.receive(first)?;
            if field(&answer, RESP_TYPE).map(Value::int) != Some(NOTIFY) {
                let restored = match field(&answer, RESP_RESTORE) {
                    Some(Value::Bytes(body)) => field(body, 1).map_or(0, Value::int),
                    _ => 0,
                };
                return Ok(restored);
            }
            let Some(Value::Bytes(body)) = field(&answer, RESP_NOTIFY) else {
                bail!("criu sent an empty notice")
            };
            let script = field(body, 1).map(Value::text).unwrap_or_default();
            crate::log::debug(format_args!("criu: {script}"));
            let pid = field(body, 2).map_or(0, Value::int);
            first = first.or((kind == Kind::Restore && pid > 0).then_some(pid));
            notice(Notice { script, pid, fd })?;
            let mut answer = Message::default();
            answer.number(REQ_TYPE, NOTIFY.into()).flag(REQ_NOTIFY_SUCCESS, true);
            self.send(&answer)?;
        }
    }

    /// Fails unless CRIU, on this kernel, has an ability that `flag` needs.
    ///
    /// # Errors
    /// A fault of kind `Unsupported`.
    pub fn require(flag: &str, feature: Feature) -> Result<()> {
        let service = Self::start(CloneOptions::default(), || Ok(()))?;
        let mut request = Message::default();
        request.number(REQ_TYPE, Kind::FeatureCheck as i64).nest(REQ_FEATURES, |features| {
            features.flag(feature as u32, true);
        });
        service.send(&request)?;
        let (answer, _) = service.receive(None)?;
        let has = match field(&answer, RESP_FEATURES) {
            Some(Value::Bytes(body)) => field(body, feature as u32).map_or(0, Value::int) == 1,
            _ => false,
        };
        if !has {
            fault!(Unsupported, "{flag}: CRIU or this kernel lacks {feature:?}");
        }
        Ok(())
    }

    /// Where CRIU's process has `path`, an absolute one.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        let below = path.strip_prefix("/").unwrap_or(path);
        Path::new("/proc").join(self.pid.to_string()).join("root").join(below)
    }

    /// A file of CRIU's process below `/proc`.
    ///
    /// # Errors
    /// It is gone.
    pub fn read_proc(&self, name: &str) -> Result<String> {
        let path = format!("/proc/{}/{name}", self.pid);
        std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }

    /// Waits for CRIU's own end.
    ///
    /// # Errors
    /// It failed at the very end.
    pub fn finish(mut self) -> Result<()> {
        // Tells it that nothing more is coming.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Write);
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
                Ok(WaitStatus::Exited(_, 0)) => break,
                Err(Errno::EINTR) => {}
                Ok(status) => bail!("criu ended with {status:?}"),
                Err(err) => return Err(err).context("wait for criu"),
            }
        }
        self.ended = true;
        Ok(())
    }

    fn send(&self, message: &Message) -> Result<()> {
        match send(self.socket.as_raw_fd(), message.bytes(), MsgFlags::MSG_NOSIGNAL) {
            Err(Errno::EPIPE | Errno::ECONNRESET) => bail!("criu has ended early"),
            other => other.map(drop).context("write to criu"),
        }
    }

    /// Waits for a message; not for ever where none can come: CRIU has ended (the processes that it restores hold its
    /// socket, too), or the process `restored` is ending and CRIU waits for that, which waits for what CRIU traces.
    fn await_message(&self, restored: Option<i32>) -> Result<()> {
        let mut ending = 0;
        loop {
            let mut both = [&self.socket, &self.pidfd].map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
            match poll(&mut both, PollTimeout::from(1000_u16)) {
                Err(Errno::EINTR) => continue,
                other => other.context("wait for criu")?,
            };
            match both.map(|one| one.any().unwrap_or_default()) {
                [true, _] => return Ok(()),
                [_, true] => bail!("criu has ended early"),
                _ if restored.is_some_and(is_ending) => ending += 1,
                _ => ending = 0,
            }
            if ending == PATIENCE {
                bail!("criu failed: the restored process ended, and criu waits for its end");
            }
        }
    }

    fn receive(&self, restored: Option<i32>) -> Result<(Vec<u8>, Option<OwnedFd>)> {
        self.await_message(restored)?;
        let mut buffer = vec![0; LONGEST];
        let (length, fd) = match sys::pass_fd::receive(&self.socket, &mut buffer) {
            Err(err) if err.kind() == ErrorKind::ConnectionReset => bail!("criu has ended early"),
            other => other.context("read from criu")?,
        };
        ensure!(length > 0, "criu has ended early");
        ensure!(length < LONGEST, "criu's answer is too long");
        buffer.truncate(length);
        if field(&buffer, RESP_SUCCESS).map_or(0, Value::int) != 1 {
            let text = field(&buffer, RESP_ERRMSG).map(Value::text).filter(|text| !text.is_empty());
            // The same line is in the log, which `explain` quotes.
            let text = text.filter(|text| !text.starts_with("Error ("));
            let errno = field(&buffer, RESP_ERRNO).map_or(0, Value::int);
            match (text, errno) {
                (Some(text), _) => bail!("criu failed: {text}"),
                (None, 0) => bail!("criu failed"),
                (None, errno) => bail!("criu failed: {}", std::io::Error::from_raw_os_error(errno)),
            }
        }
        Ok((buffer, fd))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let _ = sys::pidfd::send_signal(&self.pidfd, nix::libc::SIGKILL);
        let _ = waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED);
    }
}

/// Whether a process is gone, or at its end: the first process of a PID namespace stays until all others there have gone.
fn is_ending(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // proc_pid_stat(5): the name is in brackets; the flags follow six fields after it.
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & EXITING != 0)
}

fn execute(socket: &OwnedFd) -> Result<()> {
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty())).context("hand the socket to criu")?;
    sys::clone::default_signals().context("reset signals")?;
    let err = Command::new(PROGRAM).arg("swrk").arg(socket.as_raw_fd().to_string()).exec();
    if err.kind() == ErrorKind::NotFound {
        fault!(Unsupported, "{PROGRAM} is not installed (looked in PATH)");
    }
    Err(err).with_context(|| format!("execute {PROGRAM}"))
}

/// Adds the first error of CRIU's log, and where the log is, to a failure.
#[must_use]
pub fn explain(err: anyhow::Error, log: &Path) -> anyhow::Error {
    let Ok(file) = File::open(log) else { return err };
    // CRIU would like more open files than it may have, and goes on without.
    let counts = |line: &String| line.contains("Error (") && !line.contains("rlimit: ");
    let first = BufReader::new(file).lines().map_while(Result::ok).find(counts);
    match first {
        // `(00.012345)      7: Error (criu/x.c:12): what`
        Some(line) => {
            let reason = line.split_once("): ").map_or(line.as_str(), |(_, rest)| rest).trim();
            let reason = reason.rsplit_once("): ").map_or(reason, |(_, rest)| rest);
            err.context(format!("{reason} (see {})", log.display()))
        }
        None => err.context(format!("see {}", log.display())),
    }
}
