//! Hooks: programs of the caller's choice at points of the lifecycle, with the container's state on stdin.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

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

/// Runs the hooks of one kind in their order; the first failure ends it.
///
/// # Errors
/// A hook that cannot be executed, exits with another code than 0 or outlives its timeout (then it is killed),
/// naming the kind and the hook.
pub fn run(kind: &str, hooks: &[Hook], state: &[u8]) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state).with_context(|| format!("run {kind} hook #{index} {}", hook.path.display()))?;
    }
    Ok(())
}

/// As [`run`], but each hook runs whatever the others did, and failures are only reported: for `poststop`.
pub fn run_all(kind: &str, hooks: &[Hook], state: &[u8]) {
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(err) = run_one(hook, state) {
            crate::log::warn(&format!("run {kind} hook #{index} {}: {err:#}", hook.path.display()));
        }
    }
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<()> {
    crate::log::debug(format_args!("hook {}", hook.path.display()));
    let mut command = Command::new(&hook.path);
    command.env_clear().stdin(Stdio::piped());
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
    command.envs(hook.env.iter().filter_map(|line| line.split_once('=')));
    let mut child = command.spawn().context("execute it")?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(err) = stdin.write_all(state)
        && err.kind() != ErrorKind::BrokenPipe
    {
        return Err(err).context("write the state to its stdin");
    }
    let status = match hook.timeout {
        Some(seconds) => wait_at_most(&mut child, Duration::from_secs(seconds.try_into().unwrap_or(0)))?,
        None => child.wait().context("wait for it")?,
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => bail!("exit status {code}"),
        (None, signal) => bail!("killed by signal {}", signal.unwrap_or_default()),
    }
}

fn wait_at_most(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let pidfd = sys::pidfd::open(i32::try_from(child.id())?).context("watch it")?;
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if end <= Instant::now() => {
                child.kill().context("kill it after its timeout")?;
                child.wait().context("wait for it")?;
                bail!("killed after its timeout of {} s", limit.as_secs());
            }
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return child.wait().context("wait for it"),
            Err(err) => return Err(err).context("wait for it"),
        }
    }
}
