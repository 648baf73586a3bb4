//! Limits as version 2 files.

use anyhow::Result;
use contracts::fault;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxWeightDevice};

use super::super::conversion::{blkio_to_io_weight, or_max, shares_to_weight, swap_alone};
use super::super::file::Dir;
use super::{Writes, cpuset, page_size, pids, rdma, throttles};
use crate::log;

/// Adds to a change what holds now, where version 2 has in one file, or in relation, what the configuration has apart: the
/// quota and its period, the memory limit and its sum with swap.
pub fn complete(dir: &Dir, resources: &LinuxResources) -> LinuxResources {
    let mut resources = resources.clone();
    if let Some(cpu) = resources.cpu_mut()
        && cpu.period().unwrap_or(0) != 0
        && cpu.quota().unwrap_or(0) == 0
    {
        let now = dir.read("cpu.max").unwrap_or_default();
        cpu.set_quota(now.split(' ').next().and_then(|quota| quota.parse().ok()));
    }
    if let Some(memory) = resources.memory_mut()
        && memory.swap().unwrap_or(0) > 0
        && memory.limit().unwrap_or(0) == 0
    {
        memory.set_limit(dir.read("memory.max").ok().and_then(|limit| limit.trim().parse().ok()));
    }
    resources
}

/// All files and values.
pub fn plan(resources: &LinuxResources) -> Result<Writes> {
    let mut writes = Writes::default();
    if let Some(memory) = resources.memory() {
        memory_files(&mut writes, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_files(&mut writes, cpu)?;
    }
    pids(&mut writes, "", resources);
    if let Some(block) = resources.block_io() {
        let leaf = |device: &LinuxWeightDevice| device.leaf_weight().is_some_and(|weight| weight != 0);
        if block.leaf_weight().is_some_and(|weight| weight != 0)
            || block.weight_device().iter().flatten().any(leaf)
        {
            log::warn("blockIO.leafWeight: ignored, cgroup v2 has no such thing");
        }
        block_files(&mut writes, block);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let (size, value) = (page_size(limit.page_size())?, or_max(limit.limit()));
        writes.add("", format!("hugetlb.{size}.max"), &value);
        writes.push("", vec![format!("hugetlb.{size}.rsvd.max")], value, true);
    }
    if resources.network().as_ref().is_some_and(|network| {
        network.class_id().is_some_and(|class| class != 0)
            || network.priorities().as_ref().is_some_and(|list| !list.is_empty())
    }) {
        fault!(Unsupported, "resources.network: cgroup v2 has no net_cls and net_prio");
    }
    rdma(&mut writes, "", resources);
    // Last, so that what is spelt out wins; in order, so that a failure is always the same one.
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') {
            fault!(Usage, "resources.unified: \"{file}\" is no name of a cgroup file");
        }
        writes.add("", file, value);
    }
    Ok(writes)
}

fn memory_files(writes: &mut Writes, memory: &LinuxMemory) -> Result<()> {
    // Where runc goes on without a word, and crun refuses.
    for (field, asked) in [
        ("disableOOMKiller", memory.disable_oom_killer() == Some(true)),
        ("kernelTCP", memory.kernel_tcp().is_some_and(|limit| limit > 0)),
        ("swappiness", memory.swappiness().is_some()),
    ] {
        if asked {
            log::warn(&format!("memory.{field}: ignored, cgroup v2 has no such thing"));
        }
    }
    let limit = memory.limit().filter(|limit| *limit != 0);
    if let Some(swap) = swap_alone(limit, memory.swap())? {
        // Without swap accounting no swap and unlimited swap are what there is.
        let optional = swap == "0" || swap == "max";
        writes.push("", vec!["memory.swap.max".to_owned()], swap, optional);
    }
    if let Some(limit) = limit {
        writes.push("", vec!["memory.max".to_owned()], or_max(limit), limit < 0);
    }
    if let Some(reservation) = memory.reservation().filter(|value| *value != 0) {
        writes.add("", "memory.low", or_max(reservation));
    }
    Ok(())
}

fn cpu_files(writes: &mut Writes, cpu: &LinuxCpu) -> Result<()> {
    if cpu.realtime_period().unwrap_or(0) != 0 || cpu.realtime_runtime().unwrap_or(0) != 0 {
        fault!(
            Unsupported,
            "cpu.realtimePeriod, cpu.realtimeRuntime: cgroup v2 has no limits on real-time tasks"
        );
    }
    if cpu.idle() == Some(0) {
        writes.add("", "cpu.idle", 0);
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        writes.add("", "cpu.weight", shares_to_weight(shares));
    }
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    match (quota, period) {
        (0, 0) => {}
        // The kernel keeps a period that is not given.
        (quota, 0) => writes.add("", "cpu.max", or_max(quota)),
        (0, period) => writes.add("", "cpu.max", format!("max {period}")),
        (quota, period) => writes.add("", "cpu.max", format!("{} {period}", or_max(quota))),
    }
    if let Some(burst) = cpu.burst() {
        writes.add("", "cpu.max.burst", burst);
    }
    if let Some(idle) = cpu.idle().filter(|idle| *idle != 0) {
        writes.add("", "cpu.idle", idle);
    }
    cpuset(writes, "", cpu);
    Ok(())
}

fn block_files(writes: &mut Writes, block: &LinuxBlockIo) {
    // BFQ keeps version 1's scale.
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        writes.push("", vec!["io.bfq.weight".to_owned()], weight.to_string(), true);
        writes.add_unless("io.bfq.weight", "io.weight", blkio_to_io_weight(weight));
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            writes.add("", "io.bfq.weight", value);
        }
    }
    for (list, what, _) in throttles(block) {
        for device in list {
            writes.add(
                "",
                "io.max",
                format!("{}:{} {what}={}", device.major(), device.minor(), device.rate()),
            );
        }
    }
}
