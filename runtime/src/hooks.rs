//! Hooks: programs of the caller's choice at points of the lifecycle, with the container's state on stdin.

use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::report;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use sys::command::with_clean_signals;

use crate::spec::document::Hook;

/// Where hooks print to, where that is not where we do.
static OUTPUT: OnceLock<[Option<File>; 2]> = OnceLock::new();

/// Has the hooks of this process print to files, which are opened now: some run where the host's paths are others.
///
/// # Errors
/// One cannot be opened.
pub fn redirect(stdout: Option<&Path>, stderr: Option<&Path>) -> Result<()> {
    if stdout.is_none() && stderr.is_none() {
        return Ok(());
    }
    let open = |path: &Path| {
        let file = OpenOptions::new().append(true).create(true).open(path);
        file.with_context(|| format!("open {} for hooks", path.display()))
    };
    let files = [stdout.map(open).transpose()?, stderr.map(open).transpose()?];
    let _ = OUTPUT.set(files);
    Ok(())
}

/// The files that hooks print to.
pub fn descriptors() -> impl Iterator<Item = BorrowedFd<'static>> {
    OUTPUT.get().into_iter().flatten().flatten().map(|file| file.as_fd())
}

/// Where a hook has its environment from that says nothing of it.
#[derive(Debug, Clone, Copy)]
pub enum Environment<'a> {
    /// From us, as under runc.
    Ours,
    /// These variables.
    Lines(&'a [CString]),
}

/// Runs the hooks of one kind in their order; the first failure ends it.
///
/// # Errors
/// A hook that cannot be executed, exits with another code than 0 or outlives its timeout (then it is killed),
/// naming the kind and the hook, with the end of what it said of it.
pub fn run(kind: &str, hooks: &[Hook], state: &[u8], environment: Environment<'_>) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, environment).with_context(|| describe(kind, index, hook))?;
    }
    Ok(())
}

/// As [`run`], but each hook runs whatever the others did, and failures are only reported: for `poststop`.
pub fn run_all(kind: &str, hooks: &[Hook], state: &[u8]) {
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(err) = run_one(hook, state, Environment::Ours) {
            crate::log::warn(&report::one_line(&err.context(describe(kind, index, hook))));
        }
    }
}

/// In runc's words, which users look for.
fn describe(kind: &str, index: usize, hook: &Hook) -> String {
    format!("error running {kind} hook #{index}: {}", hook.path.display())
}

fn run_one(hook: &Hook, state: &[u8], environment: Environment<'_>) -> Result<()> {
    crate::log::debug(format_args!("hook {}", hook.path.display()));
    let mut command = Command::new(&hook.path);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    if let Some([stdout, stderr]) = OUTPUT.get() {
        if let Some(file) = stdout {
            command.stdout(file.try_clone()?);
        }
        if let Some(file) = stderr {
            command.stderr(file.try_clone()?);
        }
    }
    if let Some((name, rest)) = hook.args.split_first() {
        command.arg0(name).args(rest);
    }
    // The last of two equal names wins, as it does for the programs that read the environment themselves.
    match (&hook.env, environment) {
        (Some(lines), _) => {
            _ = command.env_clear().envs(lines.iter().filter_map(|line| line.split_once('=')))
        }
        (None, Environment::Ours) => {}
        (None, Environment::Lines(lines)) => _ = command.env_clear().envs(lines.iter().filter_map(variable)),
    }
    // `run` has blocked them all, for itself.
    with_clean_signals(&mut command);
    let mut child = command.spawn().context("execute it")?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(err) = stdin.write_all(state)
        && err.kind() != ErrorKind::BrokenPipe
    {
        return Err(err).context("write the state to its stdin");
    }
    let limit = hook.timeout.map(|seconds| Duration::from_secs(seconds.try_into().unwrap_or(0)));
    let (ended, complaint) = attend(&mut child, limit)?;
    let complaint = if complaint.is_empty() { complaint } else { format!(", stderr: {complaint}") };
    match ended.map(|status| (status.code(), status.signal())) {
        Some((Some(0), _)) => Ok(()),
        Some((Some(code), _)) => bail!("exit status {code}{complaint}"),
        Some((None, signal)) => bail!("killed by signal {}{complaint}", signal.unwrap_or_default()),
        None => bail!("killed after its timeout of {} s{complaint}", limit.unwrap_or_default().as_secs()),
    }
}

fn variable(line: &CString) -> Option<(&OsStr, &OsStr)> {
    let line = line.to_bytes();
    let at = line.iter().position(|byte| *byte == b'=')?;
    Some((OsStr::from_bytes(&line[..at]), OsStr::from_bytes(&line[at + 1..])))
}

/// Waits for a hook, passing on what it complains of. Returns how it ended, `None` where it was killed after `limit`, and
/// the end of its complaint. A process that it leaves behind is not waited for.
fn attend(child: &mut Child, limit: Option<Duration>) -> Result<(Option<ExitStatus>, String)> {
    let pidfd = sys::pidfd::open(i32::try_from(child.id())?).context("watch it")?;
    let end = limit.map(|limit| Instant::now() + limit);
    let (mut stderr, mut said) = (child.stderr.take(), Vec::new());
    if let Some(pipe) = &stderr {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("read what it says")?;
    }
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| left.try_into().unwrap_or(PollTimeout::MAX));
        let mut fds = vec![PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        fds.extend(stderr.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => {
                child.kill().context("kill it after its timeout")?;
                child.wait().context("wait for it")?;
                return Ok((None, complaint(&said)));
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(err) => return Err(err).context("wait for it"),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready[0] {
            // What it said last is in the pipe still; what it has left behind may go on for ever.
            let _ = (0..PIPE / CHUNK).find(|_| !pass_on(stderr.as_mut(), &mut said));
            return Ok((Some(child.wait().context("wait for it")?), complaint(&said)));
        }
        if ready.get(1) == Some(&true) && !pass_on(stderr.as_mut(), &mut said) {
            stderr = None;
        }
    }
}

/// As much as the error shows, and is read at a time.
const CHUNK: usize = 1024;
/// As much as a pipe holds (pipe(7)).
const PIPE: usize = 64 << 10;

/// Whether there was something.
fn pass_on(pipe: Option<&mut ChildStderr>, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; CHUNK];
    let Some(Ok(length @ 1..)) = pipe.map(|pipe| pipe.read(&mut buffer)) else { return false };
    let _ = io::stderr().write_all(&buffer[..length]);
    said.extend_from_slice(&buffer[..length]);
    said.drain(..said.len().saturating_sub(buffer.len()));
    true
}

fn complaint(said: &[u8]) -> String {
    String::from_utf8_lossy(said).trim().to_owned()
}
