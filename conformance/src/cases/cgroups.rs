//! `linux.cgroupsPath` and `linux.resources`.

use anyhow::{Result, ensure};
use serde_json::json;

use super::expect::same;
use crate::case::Case;
use crate::machine::Need;
use crate::rig::Rig;

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("cgroups/path", "config-linux.md#cgroups-path", path).needs(&[Need::Controller("freezer")]),
    Case::new("cgroups/removed", "runtime.md#delete", removed).needs(&[Need::Controller("freezer")]),
    Case::new("cgroups/memory-limit", "config-linux.md#memory", memory).needs(&[Need::Controller("memory")]),
    Case::new("cgroups/memory-enforced", "config-linux.md#memory", memory_enforced)
        .needs(&[Need::Controller("memory")]),
    Case::new("cgroups/memory-swap", "config-linux.md#memory", swap)
        .needs(&[Need::CgroupV1, Need::File("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")]),
    Case::new("cgroups/memory-reservation", "config-linux.md#memory", reservation)
        .needs(&[Need::Controller("memory")]),
    Case::new("cgroups/cpu-shares", "config-linux.md#cpu", shares).needs(&[Need::Controller("cpu")]),
    Case::new("cgroups/cpu-quota", "config-linux.md#cpu", quota).needs(&[Need::Controller("cpu")]),
    Case::new("cgroups/cpuset", "config-linux.md#cpu", cpuset).needs(&[Need::Controller("cpuset")]),
    Case::new("cgroups/pids-limit", "config-linux.md#pids", pids).needs(&[Need::Controller("pids")]),
    Case::new("cgroups/pids-enforced", "config-linux.md#pids", pids_enforced)
        .needs(&[Need::Controller("pids")]),
    Case::new("cgroups/pids-unlimited", "config-linux.md#pids", pids_unlimited)
        .needs(&[Need::Controller("pids")]),
    Case::new("cgroups/unified", "config-linux.md#unified", unified)
        .needs(&[Need::CgroupV2, Need::Controller("pids")]),
    Case::new("cgroups/unified-escape", "config-linux.md#unified", unified_escape).needs(&[Need::CgroupV2]),
    Case::new("cgroups/mount-read-only", "config-linux.md#cgroup-ownership", mount_read_only),
    Case::new("cgroups/pause-resume", "runtime.md#operations", pause),
    Case::new("cgroups/update", "config-linux.md#control-groups", update).needs(&[Need::Controller("pids")]),
];

fn path(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let pid = rig.pid()?.to_string();
    let members = rig.cgroup("freezer", "cgroup.procs")?;
    ensure!(members.lines().any(|line| line == pid), "{pid} is not in the cgroup: {members:?}");
    Ok(())
}

fn removed(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let dir = rig.cgroup_dir("freezer")?;
    ensure!(dir.is_dir(), "{} does not exist while the container runs", dir.display());
    rig.call(&["delete", "--force", &rig.id])?.ok()?;
    ensure!(!dir.exists(), "{} is still there after delete", dir.display());
    Ok(())
}

fn memory(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/memory", json!({"limit": 64 << 20}))?.running("pause")?;
    let file = if rig.machine.cgroup_v2 { "memory.max" } else { "memory.limit_in_bytes" };
    same(file, &rig.cgroup("memory", file)?.into(), (64 << 20).to_string())
}

fn memory_enforced(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/memory", json!({"limit": 32 << 20, "swap": 32 << 20}))?;
    let run = rig.program(&["eat", "128"])?.run()?;
    ensure!(run.code == 137, "128 MiB in a container of 32 MiB ended with {}", run.code);
    Ok(())
}

fn swap(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/memory", json!({"limit": 64 << 20, "swap": 96 << 20}))?.running("pause")?;
    same("memory.memsw", &rig.cgroup("memory", "memory.memsw.limit_in_bytes")?.into(), (96 << 20).to_string())
}

fn reservation(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/memory", json!({"limit": 64 << 20, "reservation": 32 << 20}))?
        .running("pause")?;
    let file = if rig.machine.cgroup_v2 { "memory.low" } else { "memory.soft_limit_in_bytes" };
    same(file, &rig.cgroup("memory", file)?.into(), (32 << 20).to_string())
}

fn shares(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/cpu", json!({"shares": 512}))?.running("pause")?;
    if rig.machine.cgroup_v2 {
        // Two conversions are in use: the linear one gives 20, runc's newer one 59.
        let weight = rig.cgroup("cpu", "cpu.weight")?;
        ensure!(weight == "20" || weight == "59", "cpu.weight is {weight}");
        return Ok(());
    }
    same("cpu.shares", &rig.cgroup("cpu", "cpu.shares")?.into(), "512")
}

fn quota(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000}))?.running("pause")?;
    if rig.machine.cgroup_v2 {
        return same("cpu.max", &rig.cgroup("cpu", "cpu.max")?.into(), "50000 100000");
    }
    same("cpu.cfs_quota_us", &rig.cgroup("cpu", "cpu.cfs_quota_us")?.into(), "50000")?;
    same("cpu.cfs_period_us", &rig.cgroup("cpu", "cpu.cfs_period_us")?.into(), "100000")
}

fn cpuset(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/cpu", json!({"cpus": "0", "mems": "0"}))?.running("pause")?;
    same("cpuset.cpus", &rig.cgroup("cpuset", "cpuset.cpus")?.into(), "0")
}

fn pids(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/pids", json!({"limit": 77}))?.running("pause")?;
    same("pids.max", &rig.cgroup("pids", "pids.max")?.into(), "77")
}

fn pids_enforced(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/pids", json!({"limit": 10}))?.program(&["fork", "30"])?.create()?.ok()?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.until("the children are started", |rig| Ok(rig.output()?.contains("ready")))?;
    let first = rig.output()?;
    let counts: serde_json::Value = serde_json::from_str(first.lines().next().unwrap_or_default())?;
    let started = counts["started"].as_u64().unwrap_or(0);
    ensure!((1..30).contains(&started), "{started} of 30 children were started under a limit of 10");
    Ok(())
}

fn pids_unlimited(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/pids", json!({"limit": -1}))?.running("pause")?;
    same("pids.max", &rig.cgroup("pids", "pids.max")?.into(), "max")
}

fn unified(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/unified", json!({"pids.max": "55"}))?.running("pause")?;
    same("pids.max", &rig.cgroup("pids", "pids.max")?.into(), "55")
}

fn unified_escape(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/unified", json!({"../cgroup.procs": "1"}))?.run()?.fails()?;
    Ok(())
}

fn mount_read_only(rig: &mut Rig<'_>) -> Result<()> {
    let options = ["nosuid", "noexec", "nodev", "ro"];
    rig.set("/linux/namespaces/-", json!({"type": "cgroup"}))?.set(
        "/mounts/-",
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}),
    )?;
    let made =
        if rig.machine.cgroup_v2 { "mkdir /sys/fs/cgroup/new" } else { "mkdir /sys/fs/cgroup/pids/new" };
    let tries = rig.attempt(&["list /sys/fs/cgroup", made])?;
    let names = super::expect::allowed(&tries, "list /sys/fs/cgroup")?;
    ensure!(names.as_array().is_some_and(|names| !names.is_empty()), "the cgroup mount is empty");
    super::expect::refused(&tries, made, &["EROFS", "EPERM", "EACCES"])
}

fn pause(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["pause", &rig.id])?.ok()?;
    same("the status", &rig.state()?["status"], "paused")?;
    rig.call(&["resume", &rig.id])?.ok()?;
    same("the status", &rig.state()?["status"], "running")?;
    rig.call(&["kill", &rig.id, "TERM"])?.ok()?;
    ensure!(rig.wait()? == 0, "the program did not end by itself after pause and resume");
    Ok(())
}

fn update(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/resources/pids", json!({"limit": 77}))?.running("pause")?;
    rig.call(&["update", "--pids-limit", "33", &rig.id])?.ok()?;
    same("pids.max", &rig.cgroup("pids", "pids.max")?.into(), "33")
}
