//! Scheduling policy, I/O priority, NUMA policy, processors and execution domain of a process.

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::personality::{self, Persona};
use nix::unistd::Pid;
use sys::sched::Attributes;

use crate::spec::linux::{MemoryPolicy, Personality};
use crate::spec::process::{IoPriority, Scheduler};

const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];
/// Modes of linux.memoryPolicy and their numbers (set_mempolicy(2)).
pub const MEMORY_MODES: [(&str, i32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
/// Flags of linux.memoryPolicy.
pub const MEMORY_FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

fn lookup<T: Copy>(what: &str, table: &[(&str, T)], name: &str) -> Result<T> {
    match table.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => Ok(*value),
        None => fault!(Usage, "{what}: unknown value {name:?}"),
    }
}

/// `process.scheduler`.
///
/// # Errors
/// An unknown name, or what the kernel refuses.
pub fn set_scheduler(scheduler: &Scheduler) -> Result<()> {
    let mut flags = 0;
    for flag in &scheduler.flags {
        flags |= lookup("process.scheduler.flags", &FLAGS, flag)?;
    }
    let attributes = Attributes {
        policy: lookup("process.scheduler.policy", &POLICIES, &scheduler.policy)?,
        flags,
        nice: scheduler.nice,
        priority: u32::try_from(scheduler.priority).context("process.scheduler.priority")?,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..Attributes::default()
    };
    sys::sched::set_scheduler(attributes).with_context(|| format!("set scheduler {}", scheduler.policy))
}

/// `process.ioPriority`.
///
/// # Errors
/// An unknown class, or what the kernel refuses.
pub fn set_io_priority(priority: &IoPriority) -> Result<()> {
    let classes = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    let class = lookup("process.ioPriority.class", &classes, &priority.class)?;
    // The kernel takes the bits above for hints, and 9 for 1.
    if !(0..=7).contains(&priority.priority) {
        fault!(Usage, "process.ioPriority.priority: {} is not between 0 and 7", priority.priority);
    }
    sys::sched::set_io_priority(class, priority.priority)
        .with_context(|| format!("set I/O priority {} {}", priority.class, priority.priority))
}

/// `linux.memoryPolicy`.
///
/// # Errors
/// An unknown name, a wrong list of nodes, or what the kernel refuses.
pub fn set_memory_policy(policy: &MemoryPolicy) -> Result<()> {
    let mut mode = lookup("linux.memoryPolicy.mode", &MEMORY_MODES, &policy.mode)?;
    for flag in &policy.flags {
        mode |= lookup("linux.memoryPolicy.flags", &MEMORY_FLAGS, flag)?;
    }
    let mut mask = Vec::new();
    for node in parse_list("linux.memoryPolicy.nodes", &policy.nodes)? {
        let word = node / 64;
        if mask.len() <= word {
            mask.resize(word + 1, 0);
        }
        mask[word] |= 1u64 << (node % 64);
    }
    sys::sched::set_memory_policy(mode, &mask).with_context(|| format!("set memory policy {}", policy.mode))
}

/// `process.execCPUAffinity`: this process runs on the processors of `list` only.
///
/// # Errors
/// A wrong list, or processors that are not there.
pub fn set_affinity(list: &str) -> Result<()> {
    let mut set = CpuSet::new();
    for processor in parse_list("process.execCPUAffinity", list)? {
        set.set(processor).with_context(|| format!("process.execCPUAffinity: processor {processor}"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("run on processors {list}"))
}

/// `linux.personality`.
///
/// # Errors
/// An unknown domain, or flags, of which none is defined.
pub fn set_personality(wanted: &Personality) -> Result<()> {
    let domains = [("LINUX", 0), ("LINUX32", 0x8)];
    let domain = lookup("linux.personality.domain", &domains, &wanted.domain)?;
    if !wanted.flags.is_empty() {
        fault!(Usage, "linux.personality.flags: the specification defines none");
    }
    personality::set(Persona::from_bits_retain(domain)).context("set personality")?;
    Ok(())
}

/// Numbers such as `0-3,7`.
///
/// # Errors
/// A usage fault naming `what`.
pub fn parse_list(what: &str, text: &str) -> Result<Vec<usize>> {
    /// More than any machine has; keeps a wrong list from filling the memory.
    const MOST: usize = 1 << 16;
    let mut numbers = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < MOST => numbers.extend(first..=last),
            _ => fault!(Usage, "{what}: wrong list {text:?}"),
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::parse_list;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(parse_list("x", "0-2, 7").unwrap(), [0, 1, 2, 7]);
        assert_eq!(parse_list("x", "").unwrap(), [0; 0]);
        for wrong in ["a", "3-1", "1-", "-1", "0-99999999"] {
            assert!(parse_list("x", wrong).is_err(), "{wrong}");
        }
    }
}
