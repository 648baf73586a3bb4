//! `linux.resources` (without devices) as files and values, and their writing.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use anyhow::{Context as _, Result, bail, ensure};
use contracts::fault;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxResources, LinuxThrottleDevice};

use super::conversion::or_max;
use super::file::Dir;

mod v1;
mod v2;

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Write {
    /// The v1 controller, or empty on v2.
    controller: &'static str,
    /// Names of which the first that exists is written: files move between kernels and schedulers.
    files: Vec<String>,
    value: String,
    /// A missing file is no error: the limit asked for is what holds without it.
    optional: bool,
    /// A file that says the same where there is none of them.
    unless: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Writes(Vec<Write>);

impl Writes {
    fn add(&mut self, controller: &'static str, file: impl Into<String>, value: impl ToString) {
        self.push(controller, vec![file.into()], value.to_string(), false);
    }

    /// For version 2: one that is not missed where another file is there, which says the same.
    fn add_unless(&mut self, other: &'static str, file: &str, value: impl ToString) {
        let files = vec![file.to_owned()];
        let (controller, value, unless) = ("", value.to_string(), Some(other));
        self.0.push(Write { controller, files, value, optional: false, unless });
    }

    fn push(&mut self, controller: &'static str, files: Vec<String>, value: String, optional: bool) {
        self.0.push(Write { controller, files, value, optional, unless: None });
    }
}

/// Sets every limit of `resources` on open directories.
///
/// # Errors
/// A value the kernel refuses; a limit this cgroup version or kernel does not have.
pub fn apply(dirs: &[Dir], resources: &LinuxResources) -> Result<()> {
    let writes = match dirs {
        [] => {
            ensure!(v2::plan(resources)?.0.is_empty(), "limits are asked for, but we may not make a cgroup");
            return Ok(());
        }
        [dir] if dir.is_unified() => v2::plan(resources)?,
        _ => v1::plan(resources)?,
    };
    // Some limits hold each other (memory and its sum with swap, quota and period and burst): whatever the kernel
    // refuses at first is tried again once the rest stands.
    let mut refused = Vec::new();
    for write in &writes.0 {
        match write_one(dirs, write) {
            Err(err) if is_order(&err) => refused.push(write),
            other => other?,
        }
    }
    refused.iter().try_for_each(|write| write_one(dirs, write))
}

fn is_order(err: &anyhow::Error) -> bool {
    let errno = err.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    matches!(errno, Some(libc::EINVAL | libc::EBUSY))
}

fn write_one(dirs: &[Dir], write: &Write) -> Result<()> {
    let dir = match write.controller {
        "" => dirs.iter().find(|dir| dir.is_unified()),
        controller => dirs.iter().find(|dir| dir.has(controller)),
    };
    let Some(dir) = dir else {
        if write.optional {
            return Ok(());
        }
        fault!(Unsupported, "{}: this machine has no {} controller", write.files[0], write.controller);
    };
    for file in &write.files {
        match dir.write(file, &write.value) {
            Err(err) if err.kind() == ErrorKind::NotFound => {}
            other => return other.with_context(|| format!("write {} to {}", write.value, dir.name_of(file))),
        }
    }
    if write.optional || write.unless.is_some_and(|file| dir.read(file).is_ok()) {
        return Ok(());
    }
    fault!(
        Unsupported,
        "write {} to {}: no such file (controller not enabled or kernel without it)",
        write.value,
        dir.name_of(&write.files[0])
    )
}

/// What a change of limits that stand comes to.
#[must_use]
pub fn complete(dirs: &[Dir], resources: &LinuxResources) -> LinuxResources {
    match dirs {
        [dir] if dir.is_unified() => v2::complete(dir, resources),
        _ => resources.clone(),
    }
}

/// Refuses, where the configuration asks for it, a memory limit below what is in use now.
///
/// # Errors
/// The limit is too low.
pub fn check_usage(dirs: &[Dir], resources: &LinuxResources) -> Result<()> {
    let Some(memory) = resources.memory() else { return Ok(()) };
    let limit = memory.limit().and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let Some(limit) = limit.filter(|_| memory.check_before_update() == Some(true)) else { return Ok(()) };
    let used = dirs.iter().find_map(|dir| match dir {
        dir if dir.has("memory") => dir.read("memory.usage_in_bytes").ok(),
        dir if dir.is_unified() => dir.read("memory.current").ok(),
        _ => None,
    });
    let used: Option<u64> = used.and_then(|used| used.trim().parse().ok());
    if let Some(used) = used.filter(|used| *used > limit) {
        bail!("rejecting memory limit {limit}: {used} bytes are in use");
    }
    Ok(())
}

fn cpuset(writes: &mut Writes, controller: &'static str, cpu: &LinuxCpu) {
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            writes.add(controller, file, list);
        }
    }
}

/// A limit of 0 is none, as podman and Docker mean by `--pids-limit 0` (runc 1.5 makes it 1, and nothing can fork).
fn pids(writes: &mut Writes, controller: &'static str, resources: &LinuxResources) {
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        writes.push(controller, vec!["pids.max".to_owned()], or_max(pids.limit()), pids.limit() < 0);
    }
}

/// A limit that is not named stays as it is.
fn rdma(writes: &mut Writes, controller: &'static str, resources: &LinuxResources) {
    // In an order that is the same each time.
    let devices: BTreeMap<_, _> = resources.rdma().iter().flatten().collect();
    for (device, limit) in devices {
        let mut line = device.clone();
        for (name, value) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
            if let Some(value) = value {
                line += &format!(" {name}={value}");
            }
        }
        if line.len() > device.len() {
            writes.add(controller, "rdma.max", line);
        }
    }
}

/// The four lists of limits with their names on v2 and on v1.
fn throttles(block: &LinuxBlockIo) -> [(&[LinuxThrottleDevice], &'static str, &'static str); 4] {
    [
        (block.throttle_read_bps_device().as_deref().unwrap_or_default(), "rbps", "read_bps"),
        (block.throttle_write_bps_device().as_deref().unwrap_or_default(), "wbps", "write_bps"),
        (block.throttle_read_iops_device().as_deref().unwrap_or_default(), "riops", "read_iops"),
        (block.throttle_write_iops_device().as_deref().unwrap_or_default(), "wiops", "write_iops"),
    ]
}

/// `2MB`, `1GB`, `64KB`: part of a file's name, so it is checked.
fn page_size(size: &str) -> Result<&str> {
    let digits = size.trim_end_matches(|char: char| char.is_ascii_uppercase());
    let unit = &size[digits.len()..];
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(
        number && matches!(unit, "KB" | "MB" | "GB" | "B"),
        "hugepageLimits: pageSize {size} is not like 2MB"
    );
    Ok(size)
}

#[cfg(test)]
mod tests;
