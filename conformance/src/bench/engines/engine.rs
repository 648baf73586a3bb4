//! One engine: where it keeps its things, how it is called, and its daemon where it has one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::bench::{config, net};
use crate::check;
use crate::cli::Bench;
use crate::kernel;
use crate::tool::LIMIT;

/// The image that all of them run.
pub const IMAGE: &str = "conformance-bench";

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Ours, in this directory.
    Shim(&'a Path),
    Podman,
    Docker,
}

impl<'a> Kind<'a> {
    /// Ours first, then those that are installed.
    pub fn all(flags: &'a Bench) -> Vec<Self> {
        let ours = flags.tools.as_deref().map(Self::Shim);
        let is_there = |program: &str| check::find(Path::new(program)).is_ok();
        let podman = is_there("podman").then_some(Self::Podman);
        let docker = (is_there("docker") && is_there("dockerd")).then_some(Self::Docker);
        [ours, podman, docker].into_iter().flatten().collect()
    }

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shim(_) => "shim",
            Self::Podman => "podman",
            Self::Docker => "docker",
        }
    }
}

/// An engine that is ready to run the image.
pub struct Engine {
    name: &'static str,
    command: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
    log: PathBuf,
    daemon: Option<Daemon>,
}

/// dockerd with a containerd of its own; ends with this value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(pid_of(&self.0), Signal::SIGTERM);
        let until = Instant::now() + LIMIT;
        while Instant::now() < until && matches!(self.0.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

impl Engine {
    /// Starts its daemon, where it needs one, in the network namespace of this thread, and makes the image.
    ///
    /// # Errors
    /// Something of it does not work here.
    pub fn prepare(kind: Kind<'_>, work: &Path) -> Result<Self> {
        let dir = work.join(kind.name());
        let context = dir.join("context");
        fs::create_dir_all(&context)?;
        config::programs(&context)?;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (command, environment) = match kind {
            Kind::Shim(tools) => {
                let places =
                    vec![("BULKHEAD_STATE", dir.join("state")), ("BULKHEAD_STORE", dir.join("store"))];
                (vec![text(check::find(&tools.join("shim"))?)], places)
            }
            Kind::Podman => {
                let mut words = vec!["podman".to_owned(), "--root".into(), text(dir.join("store"))];
                words.extend(["--runroot".into(), text(dir.join("run"))]);
                words.extend(["--cgroup-manager", "cgroupfs"].map(str::to_owned));
                (words, Vec::new())
            }
            Kind::Docker => {
                let host = format!("unix://{}", dir.join("sock").display());
                (vec!["docker".to_owned()], vec![("DOCKER_HOST", host.into())])
            }
        };
        let log = dir.join("stderr");
        let mut engine = Self { name: kind.name(), command, environment, log, daemon: None };
        if kind == Kind::Docker {
            engine.start_daemon(&dir)?;
        }
        engine.make_image(kind, &context).context("make the image")?;
        Ok(engine)
    }

    fn start_daemon(&mut self, dir: &Path) -> Result<()> {
        let log = File::create(dir.join("log"))?;
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("pid")).arg("--ip6tables=false");
        command.arg("--host").arg(format!("unix://{}", dir.join("sock").display()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.daemon = Some(Daemon(command.spawn().context("start dockerd")?));
        let until = Instant::now() + LIMIT;
        while self.said(&["version"]).is_err() {
            if Instant::now() > until {
                let said = fs::read_to_string(dir.join("log")).unwrap_or_default();
                bail!("dockerd does not answer: {}", said.lines().last().unwrap_or_default());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn make_image(&self, kind: Kind<'_>, context: &Path) -> Result<()> {
        let dockerfile = "FROM scratch\nCOPY true /true\nCOPY pause /pause\n";
        fs::write(context.join("Dockerfile"), dockerfile)?;
        let words = |program: &str, words: &[&str]| {
            let mut all = vec![program.to_owned()];
            all.extend(words.iter().map(|&word| word.to_owned()));
            all
        };
        let directory = context.to_string_lossy();
        match kind {
            Kind::Shim(tools) => {
                let imgtool = tools.join("imgtool");
                self.timed(&words(&imgtool.to_string_lossy(), &["build", "-q", "-t", IMAGE, &directory]))?;
            }
            Kind::Podman => {
                self.timed(&self.words(&["build", "-q", "-t", IMAGE, &directory]))?;
            }
            Kind::Docker => {
                let archive = context.with_extension("tar");
                let archive = archive.to_string_lossy();
                self.timed(&words("tar", &["-C", &directory, "-cf", &archive, "true", "pause"]))?;
                self.timed(&self.words(&["import", &archive, IMAGE]))?;
            }
        }
        Ok(())
    }

    /// Its name in the table.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its command line with these words.
    pub fn words(&self, more: &[&str]) -> Vec<String> {
        self.command.iter().cloned().chain(more.iter().map(|&word| word.to_owned())).collect()
    }

    /// What it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn said(&self, more: &[&str]) -> Result<String> {
        let words = self.words(more);
        let output = Command::new(&words[0])
            .args(&words[1..])
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", words[0]))?;
        ensure!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a command line; its wall-clock time, and the processor time of all that it made work, also what goes on
    /// for a while behind its end; in milliseconds.
    ///
    /// # Errors
    /// It fails.
    pub fn timed(&self, words: &[String]) -> Result<(f64, f64)> {
        let before = self.processor()?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.environment.clone());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&self.log)?);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("start {}", words[0]))?;
        let ended = kernel::reap(i32::try_from(child.id())?)?;
        let took = start.elapsed();
        if ended.code != 0 {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            bail!(
                "exit code {}: {}: {}",
                ended.code,
                words.join(" "),
                said.lines().last().unwrap_or_default()
            );
        }
        net::reap_the_rest();
        Ok((took.as_secs_f64() * 1000.0, self.processor()? - before))
    }

    /// Milliseconds of every process that was waited for, and of the daemons so far.
    fn processor(&self) -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        let mut all = Duration::from_micros(micros.unsigned_abs());
        if let Some(Daemon(daemon)) = &self.daemon {
            let children = format!("/proc/{0}/task/{0}/children", daemon.id());
            let containerd = fs::read_to_string(children).unwrap_or_default();
            let pids = containerd.split_whitespace().map(str::to_owned).chain([daemon.id().to_string()]);
            for pid in pids {
                all += ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())?;
            }
        }
        Ok(all.as_secs_f64() * 1000.0)
    }
}

/// User and system time of a process and of the children that it waited for, from its `stat`.
fn ticks(stat: &str) -> Result<Duration> {
    // utime, stime, cutime and cstime are fields 14 to 17; the second one may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    let second = sysconf(SysconfVar::CLK_TCK)?.context("the clock's ticks")?;
    Ok(Duration::from_millis(ticks * 1000 / second.unsigned_abs().max(1)))
}
