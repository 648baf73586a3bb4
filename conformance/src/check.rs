//! Running the cases: several at a time, each in its own world, reported in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::case::Case;
use crate::cases;
use crate::cli::{Check, View};
use crate::guard;
use crate::kernel;
use crate::known;
use crate::machine::Machine;
use crate::output::{Report, Style, Verdict};
use crate::rig::Rig;
use crate::tool::Tool;
use crate::view;

/// Runs what the flags select; true when nothing failed.
///
/// # Errors
/// The run itself could not be set up.
pub fn run(flags: &Check) -> Result<bool> {
    let chosen: Vec<&Case> = cases::all().filter(|case| is_chosen(case, &flags.filter)).collect();
    let style = match (flags.tap, flags.json) {
        (true, _) => Style::Tap,
        (_, true) => Style::Json,
        _ => Style::Text,
    };
    let mut report = Report::new(style);
    if flags.list {
        report.list(&chosen)?;
        return Ok(true);
    }
    let Some(path) = &flags.runtime else {
        bail!("--runtime PATH is missing: which runtime is to be checked?")
    };
    ensure!(nix::unistd::geteuid().is_root(), "this needs root");
    ensure!(!chosen.is_empty(), "no case has {} in its name: --list shows all", flags.filter.join(" or "));
    let tool = Tool { path: find(path)?, flags: flags.runtime_flag.clone() };
    let kind = known::kind(&tool)?;
    let mut all = || check(flags, &chosen, (&tool, &kind), &mut report);
    match flags.view {
        View::Host => all(),
        View::Auto if !view::is_refused_by(&kind) => all(),
        View::Auto => view::inside(View::V1only, None, all),
        view => view::inside(view, None, all),
    }
}

fn check(flags: &Check, chosen: &[&Case], (tool, kind): (&Tool, &str), report: &mut Report) -> Result<bool> {
    kernel::become_subreaper().context("become a subreaper")?;
    let machine = Machine::look()?;
    let work = Work::new(&flags.work)?;
    report.start(tool, chosen.len())?;
    let jobs =
        flags.jobs.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1).max(1);
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (send, next, machine, work) = (send.clone(), &next, &machine, &work);
            scope.spawn(move || {
                while let Some(case) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let verdict = one(case, machine, tool, work, kind);
                    if send.send((*case, verdict, start.elapsed())).is_err() {
                        break;
                    }
                }
            });
        }
        drop(send);
        receive.iter().try_for_each(|(case, verdict, took): (&Case, Verdict, Duration)| {
            report.add(case, &verdict, took)
        })
    })?;
    report.finish()
}

fn one(case: &Case, machine: &Machine, tool: &Tool, work: &Work, kind: &str) -> Verdict {
    if let Some(reason) = case.needs.iter().find_map(|&need| machine.lacks(need)) {
        return Verdict::Skipped(reason);
    }
    let rig = Rig::new(machine, tool, &work.dir, &work.probe);
    let result = rig.and_then(|mut rig| {
        let result = (case.run)(&mut rig);
        rig.clean_up();
        result
    });
    match (result, known::difference(kind, case.name)) {
        (Ok(()), _) => Verdict::Passed,
        (Err(err), Some(why)) => Verdict::Known(format!("{err:#}"), why),
        (Err(err), None) => Verdict::Failed(format!("{err:#}")),
    }
}

fn is_chosen(case: &Case, filters: &[String]) -> bool {
    filters.is_empty() || filters.iter().any(|text| case.name.contains(text) || case.section.contains(text))
}

/// A program by path, or by name in PATH.
///
/// # Errors
/// There is none.
pub fn find(program: &Path) -> Result<PathBuf> {
    if program.components().count() > 1 {
        return fs::canonicalize(program).with_context(|| format!("find {}", program.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    found.with_context(|| format!("find {} in PATH", program.display()))
}

/// The directory of a run, and the probe in it. Removed at the end.
#[derive(Debug)]
pub struct Work {
    /// The directory.
    pub dir: PathBuf,
    /// This program, on the same file system as the bundles.
    pub probe: PathBuf,
}

impl Work {
    /// Makes `conformance-PID` under `parent`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(parent: &Path) -> Result<Self> {
        let dir = parent.join(format!("conformance-{}", guard::id()));
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        Self::with_probe(dir)
    }

    /// The same in memory, in mount and network namespaces of our own: runtimes keep their state on a tmpfs and no disk
    /// is to be timed; what engines do to the network stays here.
    ///
    /// # Errors
    /// It cannot be made or mounted.
    pub fn in_memory(parent: &Path) -> Result<Self> {
        Self::in_namespaces(parent, true)
    }

    /// The same, in memory or on the disk that `parent` is on.
    ///
    /// # Errors
    /// It cannot be made or mounted.
    pub fn in_namespaces(parent: &Path, memory: bool) -> Result<Self> {
        let dir = parent.join(format!("conformance-{}", guard::id()));
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).context("make namespaces")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?;
        if memory {
            mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                .with_context(|| format!("mount a tmpfs on {}", dir.display()))?;
        }
        // Without `ip` the loopback stays down; who needs it says so.
        let _ = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        Self::with_probe(dir)
    }

    fn with_probe(dir: PathBuf) -> Result<Self> {
        let probe = dir.join("probe");
        fs::copy("/proc/self/exe", &probe).context("copy this program as the probe")?;
        Ok(Self { dir, probe })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Where it is a mount of ours it goes with it; removing the rest is for the directory itself.
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir_all(&self.dir);
    }
}
