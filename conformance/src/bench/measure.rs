//! One contender: its commands, timed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::config::{self, Kind};
use crate::bundle;
use crate::kernel;
use crate::tool::LIMIT;

/// What a contender can be asked.
#[derive(Debug, Clone)]
enum Face {
    /// An OCI runtime's command line.
    Runtime(PathBuf),
    /// The floor program; only `run`.
    Floor(PathBuf),
    /// The bound program; only `run full` and `create full`.
    Bound(PathBuf),
    /// Any command line, timed as a whole.
    Command(Vec<String>),
}

/// Somebody to be timed, with a directory of its own.
#[derive(Debug, Clone)]
pub struct Contender {
    /// Its name in the table.
    pub name: String,
    face: Face,
    dir: PathBuf,
}

/// A measured command: its row and its time in milliseconds.
pub type Sample = (String, f64);

impl Contender {
    /// A runtime, with its bundles made under `work`.
    pub fn runtime(name: &str, path: &Path, work: &Path, pids: bool) -> Result<Self> {
        let dir = work.join(name);
        make_bundles(&dir, pids)?;
        Ok(Self { name: name.to_owned(), face: Face::Runtime(path.to_owned()), dir })
    }

    /// The floor: `program` is this very binary.
    pub fn floor(program: &Path, work: &Path) -> Result<Self> {
        let dir = work.join("floor");
        make_bundles(&dir, false)?;
        Ok(Self { name: "floor".to_owned(), face: Face::Floor(program.to_owned()), dir })
    }

    /// The bound: `program` is this very binary.
    pub fn bound(program: &Path, work: &Path) -> Result<Self> {
        let dir = work.join("bound");
        make_bundles(&dir, false)?;
        Ok(Self { name: "bound".to_owned(), face: Face::Bound(program.to_owned()), dir })
    }

    /// A whole command line, `NAME=COMMAND`.
    pub fn command(text: &str, work: &Path) -> Result<Self> {
        let parts = text.split_once('=').filter(|(name, line)| !name.is_empty() && !line.trim().is_empty());
        let (name, line) = parts.with_context(|| format!("--command {text:?} is not NAME=COMMAND"))?;
        let words = line.split_whitespace().map(str::to_owned).collect();
        Ok(Self { name: name.to_owned(), face: Face::Command(words), dir: work.to_owned() })
    }

    /// The program's file.
    pub fn program(&self) -> Option<&Path> {
        match &self.face {
            Face::Runtime(path) => Some(path),
            _ => None,
        }
    }

    /// Every command once, each after a pause of `idle`.
    ///
    /// # Errors
    /// A command fails.
    pub fn round(&self, number: u32, idle: Duration) -> Result<Vec<Sample>> {
        let mut samples = Vec::new();
        let log = self.dir.join("stderr");
        if let Face::Command(words) = &self.face {
            thread::sleep(idle);
            return Ok(vec![("command".to_owned(), timed(words, &log)?)]);
        }
        let mut time = |row: String, args: Vec<String>| -> Result<()> {
            thread::sleep(idle);
            samples.push((row, timed(&args, &log)?));
            Ok(())
        };
        match &self.face {
            Face::Command(..) => {}
            Face::Floor(program) => {
                for kind in [Kind::Min, Kind::Full] {
                    let rootfs = self.dir.join(kind.name()).join("rootfs");
                    let words = [program.as_path(), Path::new("floor"), Path::new(kind.name()), &rootfs];
                    let mut words: Vec<String> =
                        words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
                    words.push("/true".to_owned());
                    time(format!("run {}", kind.name()), words)?;
                }
                time(
                    "spawn".to_owned(),
                    vec![self.dir.join("min/rootfs/true").to_string_lossy().into_owned()],
                )?;
            }
            Face::Bound(program) => {
                let rootfs = self.dir.join(Kind::Full.name()).join("rootfs").to_string_lossy().into_owned();
                let pid_file = self.dir.join("pid");
                let pid_text = pid_file.to_string_lossy();
                let words = |args: &[&str]| {
                    let program = program.to_string_lossy();
                    [&*program, "bound"].iter().chain(args).map(|&word| word.to_owned()).collect::<Vec<_>>()
                };
                time("run full".to_owned(), words(&["run", &rootfs, "/true"]))?;
                time("create full".to_owned(), words(&["create", &rootfs, &pid_text]))?;
                self.end(&pid_file)?;
                timed(&words(&["delete"]), &log)?;
            }
            Face::Runtime(_) => {
                // In turn: the first one follows another contender's last command.
                let kinds =
                    if number.is_multiple_of(2) { [Kind::Min, Kind::Full] } else { [Kind::Full, Kind::Min] };
                for kind in kinds {
                    self.lifecycle(kind, number, &mut time)?;
                }
            }
        }
        Ok(samples)
    }

    fn lifecycle(
        &self,
        kind: Kind,
        number: u32,
        time: &mut impl FnMut(String, Vec<String>) -> Result<()>,
    ) -> Result<()> {
        let row = |verb: &str| format!("{verb} {}", kind.name());
        let id = format!("bench-{}-{}-{number}", self.name, kind.name());
        let bundle = self.dir.join(kind.name());
        let paused = self.dir.join(format!("{}-paused", kind.name()));
        let pid_file = self.dir.join("pid");
        let (bundle, paused) = (bundle.to_string_lossy(), paused.to_string_lossy());
        time(row("run"), self.words(&["run", "--bundle", &bundle, &id]))?;
        let create =
            self.words(&["create", "--bundle", &paused, "--pid-file", &pid_file.to_string_lossy(), &id]);
        let outcome = time(row("create"), create).and_then(|()| {
            time(row("start"), self.words(&["start", &id]))?;
            time(row("state"), self.words(&["state", &id]))?;
            time(row("exec"), self.words(&["exec", &id, "/true"]))
        });
        self.end(&pid_file)?;
        outcome?;
        time(row("delete"), self.words(&["delete", &id]))
    }

    /// Ends the paused container, untimed: what follows is only the runtime's own work.
    fn end(&self, pid_file: &Path) -> Result<()> {
        let text =
            std::fs::read_to_string(pid_file).with_context(|| format!("{}: read the pid file", self.name))?;
        let pid: i32 =
            text.trim().parse().with_context(|| format!("{}: the pid file holds {text:?}", self.name))?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        kernel::reap_init(pid, LIMIT).with_context(|| format!("{}: end the container", self.name))?;
        std::fs::remove_file(pid_file)?;
        Ok(())
    }

    /// The runtime with its own state directory and these arguments.
    fn words(&self, args: &[&str]) -> Vec<String> {
        let program = self.program().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let root = self.dir.join("state").to_string_lossy().into_owned();
        let mut words = vec![program, "--root".to_owned(), root];
        words.extend(args.iter().map(|&arg| arg.to_owned()));
        words
    }

    /// The peak resident set of one full `run`, in KiB, measured through a small process.
    ///
    /// # Errors
    /// The run fails.
    pub fn peak_rss(&self, probe: &Path) -> Result<Option<i64>> {
        if self.program().is_none() {
            return Ok(None);
        }
        let bundle = self.dir.join("full");
        let id = format!("bench-{}-rss", self.name);
        let words = self.words(&["run", "--bundle", &bundle.to_string_lossy(), &id]);
        let out = Command::new(probe).arg("rss").args(words).stdin(Stdio::null()).output()?;
        ensure!(out.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&out.stderr).trim());
        Ok(String::from_utf8_lossy(&out.stdout).trim().parse().ok())
    }
}

fn make_bundles(dir: &Path, pids: bool) -> Result<()> {
    std::fs::create_dir_all(dir.join("state"))?;
    for kind in [Kind::Min, Kind::Full] {
        for (suffix, program) in [("", "/true"), ("-paused", "/pause")] {
            let bundle = dir.join(format!("{}{suffix}", kind.name()));
            let rootfs = bundle.join("rootfs");
            for name in ["proc", "dev", "sys", "tmp", "etc"] {
                std::fs::create_dir_all(rootfs.join(name))?;
            }
            config::programs(&rootfs)?;
            let mut config = config::config(kind, program, pids)?;
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let cgroup = format!("/{}/{name}-{}{suffix}", crate::rig::cgroup_parent(), kind.name());
            bundle::set(&mut config, "/linux/cgroupsPath", cgroup.into())?;
            std::fs::write(bundle.join("config.json"), config.to_string())?;
        }
    }
    Ok(())
}

/// Runs a command; its wall-clock time in milliseconds. Its complaints go to `log`.
fn timed(words: &[String], log: &Path) -> Result<f64> {
    let (program, args) = words.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(log)?);
    let start = Instant::now();
    let child = command.spawn().with_context(|| format!("start {program}"))?;
    let ended = kernel::reap(i32::try_from(child.id())?)?;
    let took = start.elapsed();
    if ended.code != 0 {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        bail!("exit code {}: {}: {}", ended.code, words.join(" "), text.lines().last().unwrap_or_default());
    }
    Ok(took.as_secs_f64() * 1000.0)
}

/// `rss COMMAND…`: runs it and prints its peak resident set in KiB.
///
/// A verb of its own, because the kernel counts the memory of whoever called exec as the program's own peak: this
/// process has touched next to nothing yet.
pub fn rss(words: &[String]) -> std::process::ExitCode {
    use std::io::Write as _;
    let Some((program, args)) = words.split_first() else { return std::process::ExitCode::from(2) };
    let child = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let ended =
        child.and_then(|child| kernel::reap(i32::try_from(child.id()).map_err(std::io::Error::other)?));
    match ended {
        Ok(ended) if ended.code == 0 => {
            let _ = writeln!(std::io::stdout(), "{}", ended.peak_rss);
            std::process::ExitCode::SUCCESS
        }
        Ok(ended) => std::process::ExitCode::from(u8::try_from(ended.code).unwrap_or(1)),
        Err(err) => {
            let _ = writeln!(std::io::stderr(), "{program}: {err}");
            std::process::ExitCode::from(127)
        }
    }
}
