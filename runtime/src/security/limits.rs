//! Resource limits and the OOM score. A process sets its own while it still has the runtime's rights; in a new user
//! namespace it never had them, and the runtime does it.

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;

use super::procfs::Procfs;
use crate::spec::process::{Process, Rlimit};

/// Resource limits by their numbers on every architecture that we build for (getrlimit(2)).
const NAMES: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// The number of a limit.
fn number(name: &str) -> Option<u32> {
    NAMES.iter().position(|known| *known == name).and_then(|number| u32::try_from(number).ok())
}

/// Checks names and values before anything is made.
///
/// # Errors
/// A usage fault for an unknown or repeated name, or a soft limit over the hard one.
pub fn check(rlimits: &[Rlimit]) -> Result<()> {
    for (index, limit) in rlimits.iter().enumerate() {
        if number(&limit.kind).is_none() {
            fault!(Usage, "process.rlimits: unknown type {:?}", limit.kind);
        }
        if rlimits[..index].iter().any(|other| other.kind == limit.kind) {
            fault!(Usage, "process.rlimits: {} is there twice", limit.kind);
        }
        if limit.soft > limit.hard {
            fault!(Usage, "process.rlimits: {}: soft limit over the hard one", limit.kind);
        }
    }
    Ok(())
}

/// Whether a limit is in the way of what is still to be done: of so few descriptors that we need more.
fn is_last(limit: &Rlimit) -> bool {
    const ENOUGH: u64 = 128;
    limit.kind == "RLIMIT_NOFILE" && limit.soft < ENOUGH
}

fn set(pid: i32, limit: &Rlimit) -> Result<()> {
    let Some(number) = number(&limit.kind) else { return Ok(()) };
    sys::limits::set(pid, number, limit.soft, limit.hard)
        .with_context(|| format!("set rlimit {} to {} (hard {})", limit.kind, limit.soft, limit.hard))
}

/// Sets what [`apply`] has left for the end, for this process.
///
/// # Errors
/// As [`apply`].
pub fn apply_last(process: &Process) -> Result<()> {
    process.rlimits.iter().filter(|limit| is_last(limit)).try_for_each(|limit| set(0, limit))
}

/// Applies both to process `pid`, 0 being this one; but for [`apply_last`].
///
/// # Errors
/// `EPERM` where a limit would rise without `CAP_SYS_RESOURCE`.
pub fn apply(proc: &Procfs, pid: i32, process: &Process) -> Result<()> {
    process.rlimits.iter().filter(|limit| !is_last(limit)).try_for_each(|limit| set(pid, limit))?;
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let owner = if pid == 0 { "self".to_owned() } else { pid.to_string() };
    match proc.write(&format!("{owner}/oom_score_adj"), &score.to_string()) {
        // Without privileges a score cannot fall; runc and crun go on as well.
        Err(err) if !nix::unistd::geteuid().is_root() && is_denied(&err) => Ok(()),
        other => other,
    }
}

fn is_denied(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        cause.downcast_ref::<Errno>().is_some_and(|errno| matches!(errno, Errno::EACCES | Errno::EPERM))
            || cause
                .downcast_ref::<std::io::Error>()
                .is_some_and(|err| err.kind() == std::io::ErrorKind::PermissionDenied)
    })
}
