//! The other tools, executed.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::container::Container;
use contracts::fault::{Fault, Kind};
use contracts::network;
use contracts::tool;
use sys::command::with_clean_signals;

use crate::container::Store;

/// The image tool with its verb.
pub fn imgtool(verb: &str) -> Command {
    let mut command = Command::new(tool::find("imgtool"));
    with_clean_signals(command.arg(verb));
    command
}

/// Tells the image tool whose ids the container has.
pub fn map_ids(command: &mut Command, record: &Container) {
    let Some(maps) = &record.host_config.id_mappings else { return };
    for (flag, ranges) in [("--uid-map", &maps.uids), ("--gid-map", &maps.gids)] {
        for range in ranges {
            command.arg(flag).arg(range.to_string());
        }
    }
}

/// The runtime of a container with its global flags.
pub fn runtime(store: &Store, record: &Container) -> Command {
    let mut command = Command::new(&record.runtime);
    command.arg("--root").arg(store.paths.runtime()).args(&record.runtime_args);
    // A runtime that a service manager has started would wait until the container says that it is ready.
    command.env_remove("NOTIFY_SOCKET");
    with_clean_signals(&mut command);
    command
}

/// Runs a tool to its end; its stdout. What it said on stderr becomes the error, and its exit code the error's kind.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    run_with(command, Stdio::null())
}

/// As [`run`]; the tool shows its progress on our stderr, which it gets as stdin.
pub fn run_shown(command: &mut Command) -> Result<Vec<u8>> {
    let stderr = std::io::stderr().as_fd().try_clone_to_owned();
    run_with(command, stderr.map_or_else(|_| Stdio::null(), Stdio::from))
}

fn run_with(command: &mut Command, stdin: Stdio) -> Result<Vec<u8>> {
    command.stdin(stdin);
    let output = command.output().with_context(|| format!("execute {}", program(command)))?;
    finish(command, output)
}

fn finish(command: &Command, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // The tool's last word, or what its flags' parser complained of.
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let said =
        lines().find(|line| line.starts_with("error: ")).or_else(|| lines().next_back()).unwrap_or_default();
    let said = &*logged(said).unwrap_or_else(|| said.to_owned());
    let name = program(command);
    let message = match (said.is_empty(), output.status.code()) {
        (false, _) if said.starts_with(&format!("{name}:")) => said.to_owned(),
        (false, _) => format!("{name}: {said}"),
        (true, Some(code)) => format!("{name}: exit code {code}"),
        (true, None) => format!("{name}: {}", output.status),
    };
    match output.status.code().and_then(kind_of) {
        Some(kind) => Err(Fault::new(kind, message).into()),
        None => bail!(message),
    }
}

/// The words of a line of logrus, as runc writes them: `time="…" level=error msg="…"`.
fn logged(line: &str) -> Option<String> {
    let (_, message) = line.strip_prefix("time=")?.split_once(" msg=")?;
    let mut quoted = serde_json::Deserializer::from_str(message).into_iter::<String>();
    quoted.next().and_then(Result::ok).or_else(|| Some(message.split(' ').next()?.to_owned()))
}

/// The kinds that the suite's exit codes stand for (`docs/exit-codes.md`).
fn kind_of(code: i32) -> Option<Kind> {
    Some(match code {
        2 => Kind::Usage,
        3 => Kind::NotFound,
        4 => Kind::WrongState,
        5 => Kind::Busy,
        6 => Kind::Remote,
        7 => Kind::Unsupported,
        126 => Kind::CommandNotExecutable,
        127 => Kind::CommandNotFound,
        _ => return None,
    })
}

fn program(command: &Command) -> String {
    let path = PathBuf::from(command.get_program());
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// `netctl up`, started: the image can be prepared meanwhile. Dropped without having been asked, it is waited for: a
/// `netctl down` that overtakes it would take nothing down.
pub struct NetworkUp {
    command: Command,
    child: Option<Child>,
}

impl Drop for NetworkUp {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let _ = child.wait_with_output();
        }
    }
}

impl NetworkUp {
    /// Starts it.
    pub fn start(id: &str, request: &network::Request) -> Result<Self> {
        let mut command = Command::new(tool::find("netctl"));
        command.args(["up", id]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = with_clean_signals(&mut command)
            .spawn()
            .with_context(|| format!("execute {}", program(&command)))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A netctl that ended already says why below.
            let _ = stdin.write_all(&serde_json::to_vec(request)?);
        }
        Ok(Self { command, child: Some(child) })
    }

    /// Waits for its answer.
    pub fn answer(mut self) -> Result<network::Status> {
        let child = self.child.take().context("netctl was asked twice")?;
        let output = child.wait_with_output()?;
        let answer = finish(&self.command, output)?;
        serde_json::from_slice(&answer).context("netctl: its answer is not what it promises")
    }
}

/// `netctl down`: idempotent, also after a crash of anything.
pub fn network_down(id: &str) -> Result<()> {
    run(Command::new(tool::find("netctl")).args(["down", id])).map(drop)
}

/// `imgtool mount`, unless the bundle's rootfs is mounted.
pub fn mount(bundle: &Path) -> Result<()> {
    if is_mounted(bundle) {
        return Ok(());
    }
    run(imgtool("mount").arg(bundle)).map(drop)
}

/// Whether a bundle's rootfs is a file system of its own.
pub fn is_mounted(bundle: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev());
    match (device(bundle), device(&bundle.join("rootfs"))) {
        (Ok(outside), Ok(inside)) => outside != inside,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tool_said_is_the_error() {
        let err =
            run(Command::new("/bin/sh")
                .args(["-c", "echo out; echo noise >&2; echo 'sh: the why' >&2; exit 3"]));
        let err = err.unwrap_err();
        assert_eq!((err.to_string().as_str(), Kind::of(&err)), ("sh: the why", Some(Kind::NotFound)));
        let line = r#"time="2026-01-02T03:04:05Z" level=error msg="it \"cannot\": done" more=1"#;
        assert_eq!(logged(line).unwrap(), "it \"cannot\": done");
        assert_eq!((logged("time=x level=error msg=no"), logged("plain msg=x")), (Some("no".into()), None));
        assert!(run(&mut Command::new("/nonexistent/tool")).unwrap_err().to_string().contains("tool"));
    }
}
