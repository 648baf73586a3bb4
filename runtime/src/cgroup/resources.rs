//! `linux.resources` (without devices) as files and values, and their writing.

use std::io::{self, ErrorKind};

use anyhow::{Context as _, Result, bail, ensure};
use contracts::fault;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::conversion::{blkio_to_io_weight, or_max, shares_to_weight, swap_alone};
use super::file::Dir;

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
}

#[derive(Debug, Default)]
struct Writes(Vec<Write>);

impl Writes {
    fn add(&mut self, controller: &'static str, file: impl Into<String>, value: impl ToString) {
        self.push(controller, vec![file.into()], value.to_string(), false);
    }

    fn push(&mut self, controller: &'static str, files: Vec<String>, value: String, optional: bool) {
        self.0.push(Write { controller, files, value, optional });
    }
}

/// Sets every limit of `resources` on open directories.
///
/// # Errors
/// A value the kernel refuses; a limit this cgroup version or kernel does not have.
pub fn apply(dirs: &[Dir], resources: &LinuxResources) -> Result<()> {
    let writes = match dirs {
        [] => {
            ensure!(plan_v2(resources)?.0.is_empty(), "limits are asked for, but we may not make a cgroup");
            return Ok(());
        }
        [dir] if dir.is_unified() => plan_v2(resources)?,
        _ => plan_v1(resources)?,
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
    if write.optional {
        return Ok(());
    }
    fault!(
        Unsupported,
        "write {} to {}: no such file (controller not enabled or kernel without it)",
        write.value,
        dir.name_of(&write.files[0])
    )
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

fn plan_v1(resources: &LinuxResources) -> Result<Writes> {
    let mut writes = Writes::default();
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        fault!(Unsupported, "resources.unified: only on cgroup v2");
    }
    if let Some(memory) = resources.memory() {
        memory_v1(&mut writes, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_v1(&mut writes, cpu);
    }
    pids(&mut writes, "pids", resources);
    if let Some(block) = resources.block_io() {
        block_v1(&mut writes, block);
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

fn memory_v1(writes: &mut Writes, memory: &LinuxMemory) -> Result<()> {
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

fn cpu_v1(writes: &mut Writes, cpu: &LinuxCpu) {
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

fn cpuset(writes: &mut Writes, controller: &'static str, cpu: &LinuxCpu) {
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            writes.add(controller, file, list);
        }
    }
}

/// A limit of 0 means none was given: the kernel would let nobody fork.
fn pids(writes: &mut Writes, controller: &'static str, resources: &LinuxResources) {
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        writes.push(controller, vec!["pids.max".to_owned()], or_max(pids.limit()), pids.limit() < 0);
    }
}

fn rdma(writes: &mut Writes, controller: &'static str, resources: &LinuxResources) {
    for (device, limit) in resources.rdma().iter().flatten() {
        let number = |value: Option<u32>| value.map_or("max".to_owned(), |value| value.to_string());
        let (handles, objects) = (number(limit.hca_handles()), number(limit.hca_objects()));
        writes.add(controller, "rdma.max", format!("{device} hca_handle={handles} hca_object={objects}"));
    }
}

fn block_v1(writes: &mut Writes, block: &LinuxBlockIo) {
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

/// The four lists of limits with their names on v2 and on v1.
fn throttles(block: &LinuxBlockIo) -> [(&[LinuxThrottleDevice], &'static str, &'static str); 4] {
    [
        (block.throttle_read_bps_device().as_deref().unwrap_or_default(), "rbps", "read_bps"),
        (block.throttle_write_bps_device().as_deref().unwrap_or_default(), "wbps", "write_bps"),
        (block.throttle_read_iops_device().as_deref().unwrap_or_default(), "riops", "read_iops"),
        (block.throttle_write_iops_device().as_deref().unwrap_or_default(), "wiops", "write_iops"),
    ]
}

fn plan_v2(resources: &LinuxResources) -> Result<Writes> {
    let mut writes = Writes::default();
    if let Some(memory) = resources.memory() {
        memory_v2(&mut writes, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_v2(&mut writes, cpu)?;
    }
    pids(&mut writes, "", resources);
    if let Some(block) = resources.block_io() {
        block_v2(&mut writes, block);
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

fn memory_v2(writes: &mut Writes, memory: &LinuxMemory) -> Result<()> {
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

fn cpu_v2(writes: &mut Writes, cpu: &LinuxCpu) -> Result<()> {
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

fn block_v2(writes: &mut Writes, block: &LinuxBlockIo) {
    // BFQ keeps version 1's scale.
    if let Some(weight) = block.weight().filter(|weight| *weight != 0) {
        writes.push("", vec!["io.bfq.weight".to_owned()], weight.to_string(), true);
        writes.push("", vec!["io.weight".to_owned()], blkio_to_io_weight(weight).to_string(), true);
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
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(plan: Result<Writes>) -> Vec<String> {
        plan.unwrap().0.iter().map(|write| format!("{}={}", write.files[0], write.value)).collect()
    }

    fn both(resources: serde_json::Value) -> (Vec<String>, Vec<String>) {
        let resources: LinuxResources = serde_json::from_value(resources).unwrap();
        (lines(plan_v1(&resources)), lines(plan_v2(&resources)))
    }

    #[test]
    fn memory() {
        let (v1, v2) = both(json!({"memory": {"limit": 100, "swap": 150, "reservation": 50}}));
        let want =
            ["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=150", "memory.soft_limit_in_bytes=50"];
        assert_eq!(v1, want);
        assert_eq!(v2, ["memory.swap.max=50", "memory.max=100", "memory.low=50"]);
        let (v1, v2) = both(json!({"memory": {"limit": -1}}));
        assert_eq!(v1, ["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"]);
        assert_eq!(v2, ["memory.swap.max=max", "memory.max=max"]);
        let (v1, v2) = both(json!({"memory": {"limit": 0, "swap": 0}}));
        assert!(v1.is_empty() && v2.is_empty());
    }

    #[test]
    fn cpu() {
        let (v1, v2) = both(
            json!({"cpu": {"shares": 512, "quota": 50000, "period": 100_000, "cpus": "0-1", "burst": 10}}),
        );
        let want =
            ["cpu.shares=512", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.cfs_burst_us=10"];
        assert_eq!(v1[..4], want);
        assert_eq!(v2, ["cpu.weight=59", "cpu.max=50000 100000", "cpu.max.burst=10", "cpuset.cpus=0-1"]);
        assert_eq!(both(json!({"cpu": {"quota": -1}})).1, ["cpu.max=max"]);
        assert_eq!(both(json!({"cpu": {"period": 5000}})).1, ["cpu.max=max 5000"]);
        assert_eq!(both(json!({"cpu": {"shares": 512, "idle": 1}})).0, ["cpu.idle=1"]);
    }

    #[test]
    fn the_rest() {
        let (v1, v2) = both(json!({
            "pids": {"limit": -1},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 4096}],
            "blockIO": {"weight": 1000, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 7}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3}}}));
        assert_eq!(
            v1,
            [
                "pids.max=max",
                "blkio.weight=1000",
                "blkio.throttle.read_bps_device=8:0 7",
                "hugetlb.2MB.limit_in_bytes=4096",
                "hugetlb.2MB.rsvd.limit_in_bytes=4096",
                "rdma.max=mlx5_1 hca_handle=3 hca_object=max"
            ]
        );
        assert_eq!(
            v2,
            [
                "pids.max=max",
                "io.bfq.weight=1000",
                "io.weight=10000",
                "io.max=8:0 rbps=7",
                "hugetlb.2MB.max=4096",
                "hugetlb.2MB.rsvd.max=4096",
                "rdma.max=mlx5_1 hca_handle=3 hca_object=max"
            ]
        );
    }

    #[test]
    fn what_a_version_cannot_do_is_said() {
        let plan = |value| serde_json::from_value::<LinuxResources>(value).unwrap();
        assert!(plan_v1(&plan(json!({"unified": {"memory.max": "1"}}))).is_err());
        assert!(plan_v2(&plan(json!({"unified": {"../memory.max": "1"}}))).is_err());
        assert!(plan_v2(&plan(json!({"cpu": {"realtimeRuntime": 5}}))).is_err());
        assert!(plan_v2(&plan(json!({"network": {"classID": 5}}))).is_err());
        assert!(plan_v1(&plan(json!({"memory": {"swappiness": 101}}))).is_err());
        assert!(plan_v1(&plan(json!({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}))).is_err());
        assert!(plan_v1(&plan(json!({"memory": {"limit": 100, "swap": 50}}))).is_err());
    }
}
