//! The numbers from version 1 files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::Location;
use super::{
    Blkio, BlkioEntry, Cpu, CpuSet, CpuUsage, Hugetlb, Memory, MemoryEntry, Stats, Throttling, list, number,
    table, text,
};

/// The kernel's clock tick in these files (`USER_HZ`), in nanoseconds.
const TICK: u64 = 10_000_000;

pub(super) fn read(location: &Location) -> Stats {
    let mut stats = Stats::default();
    let dir = |controller| location.with_controller(controller).map(|member| member.path.as_path());
    if let Some(dir) = dir("cpuacct") {
        stats.cpu.usage = cpu_usage(dir);
    }
    if let Some(dir) = dir("cpu") {
        stats.cpu = Cpu { throttling: throttling(dir), ..stats.cpu };
    }
    if let Some(dir) = dir("cpuset") {
        stats.cpuset = cpuset(dir);
    }
    if let Some(dir) = dir("memory") {
        stats.memory = memory(dir);
    }
    if let Some(dir) = dir("pids") {
        stats.pids.current = number(dir, "pids.current");
        stats.pids.limit = number(dir, "pids.max");
    }
    if let Some(dir) = dir("blkio") {
        stats.blkio = blkio(dir);
    }
    if let Some(dir) = dir("hugetlb") {
        stats.hugetlb = hugetlb(dir);
    }
    stats
}

fn cpu_usage(dir: &Path) -> CpuUsage {
    let stat = table(&text(dir, "cpuacct.stat"));
    let ticks = |name| stat.get(name).copied().unwrap_or(0) * TICK;
    // `cpu user system`, then a line for each processor
    let all = text(dir, "cpuacct.usage_all");
    let columns: Vec<(u64, u64)> = all
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        })
        .collect();
    CpuUsage {
        total: number(dir, "cpuacct.usage"),
        percpu: text(dir, "cpuacct.usage_percpu")
            .split_whitespace()
            .filter_map(|one| one.parse().ok())
            .collect(),
        percpu_kernel: columns.iter().map(|(_, kernel)| *kernel).collect(),
        percpu_user: columns.iter().map(|(user, _)| *user).collect(),
        kernel: ticks("system"),
        user: ticks("user"),
    }
}

fn throttling(dir: &Path) -> Throttling {
    let stat = table(&text(dir, "cpu.stat"));
    let of = |name| stat.get(name).copied().unwrap_or(0);
    Throttling {
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled_time: of("throttled_time"),
    }
}

fn cpuset(dir: &Path) -> CpuSet {
    let of = |name: &str| number(dir, &format!("cpuset.{name}"));
    CpuSet {
        cpus: list(&text(dir, "cpuset.cpus")),
        cpu_exclusive: of("cpu_exclusive"),
        mems: list(&text(dir, "cpuset.mems")),
        mem_hardwall: of("mem_hardwall"),
        mem_exclusive: of("mem_exclusive"),
        memory_migrate: of("memory_migrate"),
        memory_spread_page: of("memory_spread_page"),
        memory_spread_slab: of("memory_spread_slab"),
        memory_pressure: of("memory_pressure"),
        sched_load_balance: of("sched_load_balance"),
        sched_relax_domain_level: text(dir, "cpuset.sched_relax_domain_level").trim().parse().unwrap_or(0),
    }
}

fn memory(dir: &Path) -> Memory {
    let entry = |prefix: &str| MemoryEntry {
        limit: number(dir, &format!("{prefix}.limit_in_bytes")),
        usage: number(dir, &format!("{prefix}.usage_in_bytes")),
        max: number(dir, &format!("{prefix}.max_usage_in_bytes")),
        failcnt: number(dir, &format!("{prefix}.failcnt")),
    };
    let raw = table(&text(dir, "memory.stat"));
    Memory {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("memory"),
        swap: entry("memory.memsw"),
        kernel: entry("memory.kmem"),
        kernel_tcp: entry("memory.kmem.tcp"),
        raw,
        ..Memory::default()
    }
}

fn blkio(dir: &Path) -> Blkio {
    let first = |names: [&str; 3]| {
        names.iter().map(|name| entries(&text(dir, &format!("blkio.{name}")))).find(|list| !list.is_empty())
    };
    let of = |name: &str| {
        let (bfq, plain) = (format!("bfq.{name}_recursive"), format!("{name}_recursive"));
        first([&bfq, &plain, &format!("throttle.{name}_recursive")])
            .or_else(|| first([&format!("throttle.{name}"), "", ""]))
            .unwrap_or_default()
    };
    Blkio {
        io_service_bytes_recursive: of("io_service_bytes"),
        io_serviced_recursive: of("io_serviced"),
        io_queued_recursive: of("io_queued"),
        io_service_time_recursive: of("io_service_time"),
        io_wait_time_recursive: of("io_wait_time"),
        io_merged_recursive: of("io_merged"),
        io_time_recursive: of("time"),
        sectors_recursive: of("sectors"),
        psi: None,
    }
}

/// `8:0 Read 4096` or `8:0 17`; the line of the total is none of them.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let parse = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (op, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
        Some(BlkioEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

fn hugetlb(dir: &Path) -> BTreeMap<String, Hugetlb> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let size =
            name.to_str().and_then(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".usage_in_bytes"));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let of = |what: &str| number(dir, &format!("hugetlb.{size}.{what}"));
        let one =
            Hugetlb { usage: of("usage_in_bytes"), max: of("max_usage_in_bytes"), failcnt: of("failcnt") };
        all.insert(size.to_owned(), one);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkio_lines() {
        let list = entries("8:0 Read 4096\n8:0 Total 4096\n8:16 17\nTotal 4113\n");
        assert_eq!(list.len(), 3);
        assert_eq!(list[0], BlkioEntry { major: 8, minor: 0, op: "Read".into(), value: 4096 });
        assert_eq!(list[2], BlkioEntry { major: 8, minor: 16, op: String::new(), value: 17 });
    }
}
