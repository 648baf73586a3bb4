//! Limits as version 1 files.

use anyhow::{Result, ensure};
use contracts::fault;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Writes, cpuset, page_size, pids, rdma, throttles};

/// All files and values.
pub fn plan(resources: &LinuxResources) -> Result<Writes> {
    let mut writes = Writes::default();
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        fault!(Unsupported, "resources.unified: only on cgroup v2");
    }
    if let Some(memory) = resources.memory() {
        memory_files(&mut writes, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_files(&mut writes, cpu);
    }
    pids(&mut writes, "pids", resources);
    if let Some(block) = resources.block_io() {
        block_files(&mut writes, block);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let (size, value) = (page_size(limit.page_size())?, limit.limit());
        writes.add("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), value);
        writes.push("hugetlb", vec![format!("hugetlb.{size}.rsvd.limit_in_bytes")], value.to_string(), true);
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            writes.add("net_cls", "net_cls.classid", class);
        }
        for one in network.priorities().iter().flatten() {
            writes.add("net_prio", "net_prio.ifpriomap", format!("{} {}", one.name(), one.priority()));
        }
    }
    rdma(&mut writes, "rdma", resources);
    Ok(writes)
}

fn memory_files(writes: &mut Writes, memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    // Without a limit on memory one on its sum with swap cannot stand.
    let swap = memory.swap().filter(|swap| *swap != 0).or(limit.filter(|limit| *limit == -1));
    if let (Some(limit), Some(swap)) = (limit, swap) {
        ensure!(
            swap < 0 || swap >= limit,
            "memory.swap {swap} is less than memory.limit {limit}: it is their sum"
        );
    }
    if let Some(limit) = limit {
        writes.add("memory", "memory.limit_in_bytes", limit);
    }
    if let Some(swap) = swap {
        let file = vec!["memory.memsw.limit_in_bytes".to_owned()];
        writes.push("memory", file, swap.to_string(), swap == -1);
    }
    if let Some(reservation) = memory.reservation().filter(|value| *value != 0) {
        writes.add("memory", "memory.soft_limit_in_bytes", reservation);
    }
    if let Some(limit) = memory.kernel_tcp().filter(|value| *value != 0) {
        writes.add("memory", "memory.kmem.tcp.limit_in_bytes", limit);
    }
    if let Some(swappiness) = memory.swappiness() {
        ensure!(swappiness <= 100, "memory.swappiness {swappiness} is not in 0 to 100");
        writes.add("memory", "memory.swappiness", swappiness);
    }
    if let Some(disable) = memory.disable_oom_killer() {
        writes.add("memory", "memory.oom_control", u8::from(disable));
    }
    Ok(())
}

fn cpu_files(writes: &mut Writes, cpu: &LinuxCpu) {
    // An idle group takes no shares: leave the state first, enter it last.
    if cpu.idle() == Some(0) {
        writes.add("cpu", "cpu.idle", 0);
    }
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
        writes.add("cpu", "cpu.shares", shares);
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        writes.add("cpu", "cpu.cfs_period_us", period);
    }
    if let Some(quota) = cpu.quota().filter(|quota| *quota != 0) {
        writes.add("cpu", "cpu.cfs_quota_us", quota);
    }
    if let Some(burst) = cpu.burst() {
        writes.add("cpu", "cpu.cfs_burst_us", burst);
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        writes.add("cpu", "cpu.rt_period_us", period);
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        writes.add("cpu", "cpu.rt_runtime_us", runtime);
    }
    if let Some(idle) = cpu.idle().filter(|idle| *idle != 0) {
        writes.add("cpu", "cpu.idle", idle);
    }
    cpuset(writes, "cpuset", cpu);
}

fn block_files(writes: &mut Writes, block: &LinuxBlockIo) {
    let either = |name: &str| vec![format!("blkio.{name}"), format!("blkio.bfq.{name}")];
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        writes.push("blkio", either("weight"), weight.to_string(), false);
    }
    if let Some(weight) = block.leaf_weight().filter(|weight| *weight != 0) {
        writes.add("blkio", "blkio.leaf_weight", weight);
    }
    for device in block.weight_device().iter().flatten() {
        let of = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            writes.push("blkio", either("weight_device"), of(weight), false);
        }
        if let Some(weight) = device.leaf_weight() {
            writes.add("blkio", "blkio.leaf_weight_device", of(weight));
        }
    }
    for (list, _, what) in throttles(block) {
        for device in list {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            writes.add("blkio", format!("blkio.throttle.{what}_device"), value);
        }
    }
}
