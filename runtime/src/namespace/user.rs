//! Id maps of user namespaces (user_namespaces(7)).

use std::fmt::Write as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::spec::linux::IdMapping;

/// Writes the maps of the user namespace that process `pid` has just been made in.
///
/// Without privileges the kernel takes one line, mapping the caller's own id, and wants `setgroups` denied before the
/// group map (CVE-2014-8989); for more lines the set-user-id programs newuidmap and newgidmap do it.
///
/// # Errors
/// Overlapping or unpermitted ranges.
pub fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    ensure!(!uids.is_empty() && !gids.is_empty(), "linux.uidMappings or gidMappings: empty");
    if nix::unistd::geteuid().is_root() {
        write_map(pid, "uid_map", uids)?;
        return write_map(pid, "gid_map", gids);
    }
    let single =
        |maps: &[IdMapping], own: u32| maps.len() == 1 && maps[0].size == 1 && maps[0].host_id == own;
    if single(uids, nix::unistd::geteuid().as_raw()) && single(gids, nix::unistd::getegid().as_raw()) {
        fs::write(format!("/proc/{pid}/setgroups"), "deny").context("deny setgroups")?;
        write_map(pid, "uid_map", uids)?;
        return write_map(pid, "gid_map", gids);
    }
    by_helper("newuidmap", pid, uids)?;
    by_helper("newgidmap", pid, gids)
}

fn write_map(pid: i32, name: &str, maps: &[IdMapping]) -> Result<()> {
    let mut lines = String::new();
    for map in maps {
        let _ = writeln!(lines, "{} {} {}", map.container_id, map.host_id, map.size);
    }
    fs::write(format!("/proc/{pid}/{name}"), &lines)
        .with_context(|| format!("write {name} {:?}", lines.trim_end()))
}

fn by_helper(program: &str, pid: i32, maps: &[IdMapping]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for map in maps {
        command.args([map.container_id, map.host_id, map.size].map(|number| number.to_string()));
    }
    let output = command.output().with_context(|| format!("execute {program} (package uidmap)"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// A user namespace with these maps and nobody in it, to shift the ids of a mount by.
///
/// # Errors
/// As [`write_maps`].
pub fn with_maps(uids: &[IdMapping], gids: &[IdMapping]) -> Result<OwnedFd> {
    sys::namespace::user_alone(|pid| write_maps(pid, uids, gids)).context("make a user namespace")
}
