//! The clocks of a new time namespace.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{File, write};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use contracts::fault;
use sys::clone::CLONE_NEWTIME;

use crate::spec::linux::TimeOffset;

/// Makes a time namespace, sets its clocks while nobody is in it (later the kernel refuses), and enters it.
///
/// # Errors
/// No such namespaces in this kernel, or offsets that it refuses.
pub fn enter_new(offsets: &BTreeMap<String, TimeOffset>) -> Result<()> {
    sys::namespace::unshare(CLONE_NEWTIME).context("make a time namespace")?;
    let mut lines = String::new();
    for (clock, offset) in offsets {
        let _ = writeln!(lines, "{clock} {} {}", offset.secs, offset.nanosecs);
    }
    if !lines.is_empty() {
        write("/proc/self/timens_offsets", lines).context("set linux.timeOffsets")?;
    }
    // The namespace is so far one for our children only.
    let own = File::open("/proc/self/ns/time_for_children").context("open the time namespace")?;
    sys::namespace::join(own.as_fd(), CLONE_NEWTIME).context("enter the time namespace")
}

/// Checks the names of the clocks.
///
/// # Errors
/// A usage fault that names a wrong one.
pub fn check(offsets: &BTreeMap<String, TimeOffset>) -> Result<()> {
    match offsets.keys().find(|clock| !matches!(clock.as_str(), "monotonic" | "boottime")) {
        Some(clock) => fault!(Usage, "linux.timeOffsets: unknown clock {clock:?}"),
        None => Ok(()),
    }
}
