//! Loggers under load: a payload in a container writes lines, 16,000 bytes at a time, as fast as they are taken, and whoever
//! logs them writes a file, in memory or on a disk. Pipes are as long as whoever makes them wants. Rounds take turns.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::json;

use super::net::median;
use crate::bundle;
use crate::check::{self, Work};
use crate::cli::Bench;
use crate::kernel;
use crate::tool::LIMIT;

/// Who writes the file.
enum Kind {
    /// A copy from the pipe into a file, by read(2) and write(2): no logger does less.
    Copy(PathBuf),
    /// conmon's command line, with its format.
    Conmon(PathBuf, Vec<&'static str>),
    /// `shim start`, with docker's format or conmon's.
    Shim(&'static str),
}

struct Contender {
    name: &'static str,
    kind: Kind,
    dir: PathBuf,
    /// MiB of lines per second.
    speed: Vec<f64>,
    /// Seconds of processor time: payload, runtime and logger.
    processor: Vec<f64>,
}

struct Bed<'a> {
    tools: &'a Path,
    mib: u32,
    /// Bytes in a line.
    line: u32,
}

/// Measures; true when all could be.
///
/// # Errors
/// A logger cannot be started, or does not log everything.
pub fn run(flags: &Bench, mib: u32) -> Result<bool> {
    ensure!((1..=4096).contains(&mib), "--logs takes 1 to 4096");
    let tools = flags.tools.as_deref().context("say where runtime, shim and imgtool are (--tools DIR)")?;
    let tools = &tools.canonicalize().with_context(|| format!("find {}", tools.display()))?;
    kernel::become_subreaper()?;
    let work = Work::in_namespaces(&flags.work, !flags.on_disk)?;
    for &line in &flags.line {
        measure(flags, &Bed { tools, mib, line }, &work)?;
    }
    Ok(true)
}

/// The table of one length of lines.
fn measure(flags: &Bench, bed: &Bed<'_>, work: &Work) -> Result<()> {
    let mut contenders = vec![("copy", Kind::Copy(work.probe.clone()))];
    contenders.push(("shim as conmon", Kind::Conmon(check::find(&bed.tools.join("shim"))?, vec!["conmon"])));
    contenders.push(("shim, k8s-file", Kind::Shim("k8s-file")));
    contenders.push(("shim, json-file", Kind::Shim("json-file")));
    let peer = flags.peer.first().map_or(Path::new("conmon"), PathBuf::as_path);
    if let Ok(conmon) = check::find(peer) {
        contenders.push(("conmon", Kind::Conmon(conmon, Vec::new())));
    }
    let mut rows = Vec::new();
    for (name, kind) in contenders {
        let dir = work.dir.join(format!("{}-{}", name.replace([' ', ','], "-"), bed.line));
        let contender = Contender { name, kind, dir, speed: Vec::new(), processor: Vec::new() };
        contender.prepare(bed, &work.probe).with_context(|| format!("prepare {name}"))?;
        rows.push(contender);
    }
    for round in 0..flags.runs {
        let count = rows.len();
        for turn in 0..count {
            let contender = &mut rows[(turn + usize::try_from(round)?) % count];
            let name = contender.name;
            contender.measure(bed, round > 0 || flags.runs == 1).with_context(|| name.to_owned())?;
        }
    }
    print(flags, bed, &rows)
}

impl Contender {
    fn prepare(&self, bed: &Bed<'_>, probe: &Path) -> Result<()> {
        let (mib, line) = (bed.mib.to_string(), bed.line.to_string());
        match &self.kind {
            Kind::Copy(_) => fs::create_dir_all(&self.dir)?,
            Kind::Conmon(..) => {
                let args = ["/probe", "lines", &mib, &line];
                let bundle = self.dir.join("bundle");
                bundle::root_file_system(&bundle.join("rootfs"), probe)?;
                let mut config = bundle::config(&args);
                let cgroup = format!("/{}/{}", crate::rig::cgroup_parent(), self.name.replace(' ', "-"));
                bundle::set(&mut config, "/linux/cgroupsPath", cgroup.into())?;
                fs::write(bundle.join("config.json"), config.to_string())?;
            }
            Kind::Shim(_) => {
                let context = self.dir.join("context");
                fs::create_dir_all(&context)?;
                fs::copy(probe, context.join("probe"))?;
                let command = format!("[\"/probe\", \"lines\", \"{mib}\", \"{line}\"]");
                let text = format!("FROM scratch\nCOPY probe /probe\nCMD {command}\n");
                fs::write(context.join("Dockerfile"), text)?;
                let build = ["build", "-q", "-t", "conformance-logs", &context.to_string_lossy()];
                said(self.tool(&bed.tools.join("imgtool")).args(build))?;
            }
        }
        Ok(())
    }

    fn measure(&mut self, bed: &Bed<'_>, counted: bool) -> Result<()> {
        let before = processor()?;
        let (took, log) = match &self.kind {
            Kind::Copy(probe) => self.copy(probe, bed)?,
            Kind::Conmon(program, verb) => self.conmon(program, verb, bed)?,
            Kind::Shim(driver) => self.shim(driver, bed)?,
        };
        let length = fs::metadata(&log).with_context(|| format!("stat {}", log.display()))?.len();
        let least = u64::from(bed.mib) << 20;
        ensure!(length >= least, "{length} bytes were logged of {least}");
        fs::remove_file(&log)?;
        if counted {
            self.speed.push(f64::from(bed.mib) / took.as_secs_f64());
            self.processor.push(processor()? - before);
        }
        Ok(())
    }

    fn copy(&self, probe: &Path, bed: &Bed<'_>) -> Result<(Duration, PathBuf)> {
        let log = self.dir.join("log");
        let began = Instant::now();
        let args = ["lines", &bed.mib.to_string(), &bed.line.to_string()];
        let mut writer = Command::new(probe).args(args).stdout(Stdio::piped()).spawn()?;
        let lines = writer.stdout.take().context("the writer's pipe")?;
        done(Command::new(probe).arg("cat").stdin(lines).stdout(File::create(&log)?))?;
        writer.wait()?;
        Ok((began.elapsed(), log))
    }

    fn conmon(&self, program: &Path, verb: &[&str], bed: &Bed<'_>) -> Result<(Duration, PathBuf)> {
        let (log, pid_file, id) = (self.dir.join("log"), self.dir.join("conmon.pid"), "conformance-logs");
        let runtime = bed.tools.join("runtime");
        let state = self.dir.join("state");
        let mut command = Command::new(program);
        let payload = self.dir.join("pid");
        let _ = fs::remove_file(&payload);
        command.args(verb).args(["-c", id, "-u", id, "-n", id]).arg("-r").arg(&runtime);
        command.arg("-b").arg(self.dir.join("bundle")).arg("-p").arg(&payload);
        command
            .arg("--socket-dir-path")
            .arg(&self.dir)
            .arg("--conmon-pidfile")
            .arg(&pid_file)
            .arg("-l")
            .arg(format!("k8s-file:{}", log.display()));
        command.arg("--runtime-arg=--root").arg(format!("--runtime-arg={}", state.display()));
        done(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
        // Without podman's pipes it answers before the container is made.
        let given_up = Instant::now() + LIMIT;
        while fs::read_to_string(&payload).unwrap_or_default().is_empty() {
            ensure!(Instant::now() < given_up, "no container came to be");
            std::thread::sleep(Duration::from_millis(5));
        }
        let text = fs::read_to_string(&pid_file).context("read conmon's pid file")?;
        let conmon = Pid::from_raw(text.trim().parse().context("read conmon's pid file")?);
        let began = Instant::now();
        done(Command::new(&runtime).arg("--root").arg(&state).args(["start", id]))?;
        waitpid(conmon, None).context("wait for conmon")?;
        let took = began.elapsed();
        done(Command::new(&runtime).arg("--root").arg(&state).args(["delete", "--force", id]))?;
        Ok((took, log))
    }

    fn shim(&self, driver: &str, bed: &Bed<'_>) -> Result<(Duration, PathBuf)> {
        let shim = bed.tools.join("shim");
        let flags = ["create", "--network", "none", "--log-driver", driver, "conformance-logs"];
        let id = said(self.tool(&shim).args(flags))?;
        let began = Instant::now();
        done(self.tool(&shim).args(["start", &id]).stdout(Stdio::null()))?;
        done(self.tool(&shim).args(["wait", &id]).stdout(Stdio::null()))?;
        let took = began.elapsed();
        let log = self.dir.join("log");
        fs::rename(self.dir.join("store/containers").join(&id).join("log.json"), &log)?;
        done(self.tool(&shim).args(["rm", "-f", &id]).stdout(Stdio::null()))?;
        Ok((took, log))
    }

    /// One of our tools with places of its own.
    fn tool(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("BULKHEAD_STATE", self.dir.join("state")).env("BULKHEAD_STORE", self.dir.join("store"));
        command
    }
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("execute {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("execute {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Seconds of all children that were waited for.
fn processor() -> Result<f64> {
    // Supervisors that end are ours to reap.
    while matches!(
        nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)),
        Ok(nix::sys::wait::WaitStatus::Exited(..) | nix::sys::wait::WaitStatus::Signaled(..))
    ) {}
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.unsigned_abs()).as_secs_f64())
}

fn print(flags: &Bench, bed: &Bed<'_>, rows: &[Contender]) -> Result<()> {
    let Bed { mib, line, .. } = bed;
    let mut out = io::stdout().lock();
    if flags.json {
        let all: Vec<_> = rows
            .iter()
            .map(|row| json!({"name": row.name, "mib_per_second": row.speed, "processor_s": row.processor}))
            .collect();
        return writeln!(out, "{}", json!({"mib": mib, "line": line, "loggers": all})).context("print");
    }
    let base = rows.last().filter(|row| row.name == "conmon");
    writeln!(out, "medians of {} rounds, {mib} MiB in lines of {line} bytes", flags.runs)?;
    writeln!(out, "{:18}{:>10}{:>10}{:>12}{:>12}", "", "MiB/s", "cpu s", "/ conmon", "cpu /")?;
    for row in rows {
        let (speed, cpu) = (median(&row.speed), median(&row.processor));
        write!(out, "{:18}{speed:>10.0}{cpu:>10.2}", row.name)?;
        match base {
            Some(base) => {
                writeln!(out, "{:>12.2}{:>12.2}", speed / median(&base.speed), cpu / median(&base.processor))?
            }
            None => writeln!(out)?,
        }
    }
    Ok(())
}
