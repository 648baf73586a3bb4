//! A run is the child of a process that only waits for it: however it ends (a signal, Ctrl-C, no more memory), its processes,
//! cgroups and directory go with it. What is left where both were killed at once, the next run removes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, umount2};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::kernel;
use crate::machine::Machine;
use crate::view;

/// For what a tool does behind its last answer. A run that was stopped has none.
const AFTERWARDS: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(10);

static RUN: OnceLock<u32> = OnceLock::new();

/// The number in the names of what this run makes: the pid that the user sees.
pub fn id() -> u32 {
    *RUN.get_or_init(std::process::id)
}

/// Runs `work` in a child and clears up behind it; the exit code.
///
/// # Errors
/// There is no child to be had.
pub fn run(parent: &Path, work: impl FnOnce() -> u8) -> Result<u8> {
    let machine = Machine::look()?;
    sweep(&machine, None);
    sweep_directories(parent);
    let dir = parent.join(format!("conformance-{}", id()));
    kernel::become_subreaper()?;
    let signals = to_wait_for();
    let before = signals.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let pid = kernel::fork_into(0).context("fork")?;
    if pid == 0 {
        before.thread_set_mask()?;
        set_pdeathsig(Signal::SIGKILL)?;
        #[allow(clippy::exit)] // the child of a fork must not return into the parent's code
        std::process::exit(i32::from(work()));
    }
    let (code, stopped) = await_run(Pid::from_raw(pid), &signals)?;
    let cgroups = end_descendants(&machine, if stopped { Duration::ZERO } else { AFTERWARDS });
    sweep(&machine, Some(id()));
    for cgroup in cgroups {
        let _ = fs::remove_dir(cgroup);
    }
    remove(&dir);
    Ok(code)
}

/// What would end this process, but for what it was started to ignore (by nohup, or a shell's `&`).
fn to_wait_for() -> SigSet {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let all = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let heard = all.into_iter().filter(|signal| ignored >> (*signal as u32 - 1) & 1 == 0);
    heard.chain([Signal::SIGCHLD]).collect()
}

/// The child's exit code, or 128 and the signal that ended it or us; and whether that was before its time.
fn await_run(child: Pid, signals: &SigSet) -> Result<(u8, bool)> {
    let mut stopped = None;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, code) => {
                return Ok((u8::try_from(code).unwrap_or(u8::MAX), false));
            }
            WaitStatus::Signaled(_, signal, _) => {
                return Ok((128 + u8::try_from(stopped.unwrap_or(signal) as i32)?, true));
            }
            _ => {}
        }
        let signal = signals.wait()?;
        if signal != Signal::SIGCHLD {
            stopped = Some(signal);
            kill(child, Signal::SIGKILL)?;
        }
    }
}

/// Ends what the run has left after `patience`: its orphans are this process's children, theirs become so. The cgroups that
/// they were in.
fn end_descendants(machine: &Machine, patience: Duration) -> BTreeSet<PathBuf> {
    let begin = Instant::now();
    let mut cgroups = BTreeSet::new();
    loop {
        while matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))
        ) {}
        let own = std::process::id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        if children.trim().is_empty() || begin.elapsed() > patience + LIMIT {
            return cgroups;
        }
        for pid in children.split_whitespace().filter(|_| begin.elapsed() >= patience) {
            for dir in cgroups_of(machine, pid) {
                // In version 1 nobody dies who is frozen.
                let _ = fs::write(dir.join("freezer.state"), "THAWED");
                cgroups.insert(dir);
            }
            let _ = pid.parse().map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn cgroups_of(machine: &Machine, pid: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut dirs = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        if controllers.is_empty() {
            dirs.push(machine.unified().join(path.trim_start_matches('/')));
        }
        let dir = |name| machine.cgroup(name, path).ok();
        dirs.extend(controllers.split(',').filter(|name| !name.is_empty()).filter_map(dir));
    }
    dirs
}

/// Removes the cgroups of runs that are no more, and of `ended`, with the processes in them.
fn sweep(machine: &Machine, ended: Option<u32>) {
    let mut left = Vec::new();
    for hierarchy in machine.hierarchies() {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            left.extend(entry.file_name().to_str().and_then(run_of).map(|run| (run, entry.path())));
        }
    }
    if left.is_empty() {
        return;
    }
    let living = living();
    left.retain(|(run, _)| Some(*run) == ended || !living.contains(run));
    let left: Vec<PathBuf> = left.into_iter().map(|(_, path)| path).collect();
    view::remove_cgroups(&left);
}

/// The same for directories; nobody else's: one that holds something has the probe in it.
fn sweep_directories(parent: &Path) {
    let mut left: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix("conformance-")?.parse().ok());
        left.extend(run.map(|run| (run, entry.path())));
    }
    let living = if left.is_empty() { BTreeSet::new() } else { living() };
    for (_, dir) in left.iter().filter(|(run, _)| !living.contains(run)) {
        if dir.join("probe").is_file() {
            remove(dir);
        } else {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// The run that made a cgroup of this name.
fn run_of(name: &str) -> Option<u32> {
    let rest = name.strip_prefix("conformance-")?;
    let rest = rest.strip_prefix("view-").unwrap_or(rest);
    rest.split('-').next()?.parse().ok()
}

/// The pids of every living process, also those by which it is known in a pid namespace below this one: a run may be in one.
fn living() -> BTreeSet<u32> {
    let mut pids = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let field = |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        // One that has ended may wait for long for somebody to ask how.
        let line = if field("State:").trim().starts_with('Z') { "" } else { field("NSpid:") };
        pids.extend(line.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    pids
}

/// A run that was stopped in the middle may have had something mounted there.
fn remove(dir: &Path) {
    let mounts = || {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = text.lines().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
        targets.filter(|target| target.starts_with(dir)).collect::<Vec<_>>()
    };
    for target in mounts().iter().rev() {
        let _ = umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    if mounts().is_empty() {
        let _ = fs::remove_dir_all(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_cgroups() {
        for (name, run) in [
            ("conformance-12", Some(12)),
            ("conformance-view-12", Some(12)),
            ("conformance-12-bound", Some(12)),
            ("conformance-logs", None),
            ("conformance", None),
            ("xconformance-12", None),
        ] {
            assert_eq!(run_of(name), run, "{name}");
        }
    }

    #[test]
    fn who_lives() {
        let living = living();
        assert!(living.contains(&std::process::id()) && !living.contains(&4_194_305));
    }
}
