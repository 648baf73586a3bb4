//! Running the tool under test, with a time limit and its output in files.
//!
//! Files and not pipes: a created container inherits them and would hold a pipe open long after the tool is gone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::kernel;

/// No single command of a case takes longer.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A program under test, with arguments that go before each command.
#[derive(Debug, Clone)]
pub struct Tool {
    /// The executable.
    pub path: PathBuf,
    /// Global flags, such as `--systemd-cgroup`.
    pub flags: Vec<String>,
}

/// What a command gave.
#[derive(Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Tool {
    /// Runs the tool with `args` in `dir`, where its output goes to `NAME.out` and `NAME.err`.
    ///
    /// # Errors
    /// It cannot be started, or does not end in time (then it is killed).
    pub fn run(&self, dir: &Path, name: &str, args: &[&str], stdin: Option<&Path>) -> Result<Finished> {
        let mut command = Command::new(&self.path);
        command.args(&self.flags).args(args).current_dir(dir);
        execute(command, dir, name, stdin)
    }
}

/// Runs a prepared command as [`Tool::run`] does.
///
/// # Errors
/// As there.
pub fn execute(mut command: Command, dir: &Path, name: &str, stdin: Option<&Path>) -> Result<Finished> {
    let line = format!("{command:?}").replace('"', "");
    let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
    let input = match stdin {
        Some(path) => File::open(path).with_context(|| format!("open {}", path.display()))?.into(),
        None => Stdio::null(),
    };
    command.stdin(input).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let child = command.spawn().with_context(|| format!("start {line}"))?;
    let pid = i32::try_from(child.id())?;
    let in_time = kernel::await_end(pid, LIMIT)?;
    if !in_time {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
    let ended = kernel::reap(pid)?;
    let text = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let finished = Finished { command: line, code: ended.code, stdout: text(&out)?, stderr: text(&err)? };
    if !in_time {
        bail!("{} did not end within {} s: {}", finished.command, LIMIT.as_secs(), finished.stderr.trim());
    }
    Ok(finished)
}

impl Finished {
    /// The command must have succeeded.
    ///
    /// # Errors
    /// It did not: its code and complaint.
    pub fn ok(self) -> Result<Self> {
        self.exits(0)
    }

    /// The command must have ended with `code`.
    ///
    /// # Errors
    /// Another code.
    pub fn exits(self, code: i32) -> Result<Self> {
        ensure!(self.code == code, "exit code {} instead of {code}: {}", self.code, self.story());
        Ok(self)
    }

    /// The command must have failed by itself, in words: not by a signal, not by a panic.
    ///
    /// # Errors
    /// It succeeded, crashed, or said nothing.
    pub fn fails(self) -> Result<Self> {
        ensure!(self.code != 0, "succeeded, but should fail: {}", self.story());
        // 255 is what runc exec gives; real signals end at 64.
        ensure!(!(129..=192).contains(&self.code), "ended by signal {}: {}", self.code - 128, self.story());
        ensure!(!self.stderr.trim().is_empty(), "failed without a word: {}", self.story());
        let crashed =
            ["panicked at", "goroutine 1 [", "core dumped"].iter().any(|word| self.stderr.contains(word));
        ensure!(!crashed, "crashed: {}", self.story());
        Ok(self)
    }

    /// Its stdout as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| format!("stdout is not JSON: {}", self.story()))
    }

    fn story(&self) -> String {
        let mut lines = self.stderr.lines().map(str::trim).filter(|line| !line.is_empty());
        let last: Vec<&str> = lines.by_ref().take(4).collect();
        format!("{}: {}", self.command, last.join(" / "))
    }
}
