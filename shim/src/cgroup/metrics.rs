//! The kernel's counters as containerd's metrics messages: mostly numbers, so they are written from tables of the
//! kernel's names and the messages' field numbers (github.com/containerd/cgroups, `metrics.proto`).

use std::fs;
use std::path::Path;

use prost::encoding::{double, string, uint64};

use super::Cgroup;

/// A message being written.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    /// Zero is the same as nothing.
    fn number(&mut self, tag: u32, value: u64) {
        if value != 0 {
            uint64::encode(tag, &value, &mut self.0);
        }
    }

    fn text(&mut self, tag: u32, value: &str) {
        if !value.is_empty() {
            string::encode(tag, &value.to_owned(), &mut self.0);
        }
    }

    fn message(&mut self, tag: u32, inner: &Self) {
        prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut self.0);
        prost::encoding::encode_varint(inner.0.len() as u64, &mut self.0);
        self.0.extend_from_slice(&inner.0);
    }

    /// `name value` lines, by a table.
    fn table(&mut self, text: &str, table: &[(&str, u32)]) {
        for (name, value) in pairs(text) {
            if let Some((_, tag)) = table.iter().find(|(known, _)| *known == name) {
                self.number(*tag, value);
            }
        }
    }
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_default()
}

/// A file with one number; `max` is the largest there is.
fn number(dir: &Path, file: &str) -> u64 {
    match read(dir, file).trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

const MEMORY_V1: &[(&str, u32)] = &[
    ("cache", 1),
    ("rss", 2),
    ("rss_huge", 3),
    ("mapped_file", 4),
    ("dirty", 5),
    ("writeback", 6),
    ("pgpgin", 7),
    ("pgpgout", 8),
    ("pgfault", 9),
    ("pgmajfault", 10),
    ("inactive_anon", 11),
    ("active_anon", 12),
    ("inactive_file", 13),
    ("active_file", 14),
    ("unevictable", 15),
    ("hierarchical_memory_limit", 16),
    ("hierarchical_memsw_limit", 17),
    ("total_cache", 18),
    ("total_rss", 19),
    ("total_rss_huge", 20),
    ("total_mapped_file", 21),
    ("total_dirty", 22),
    ("total_writeback", 23),
    ("total_pgpgin", 24),
    ("total_pgpgout", 25),
    ("total_pgfault", 26),
    ("total_pgmajfault", 27),
    ("total_inactive_anon", 28),
    ("total_active_anon", 29),
    ("total_inactive_file", 30),
    ("total_active_file", 31),
    ("total_unevictable", 32),
];

/// `io.containerd.cgroups.v1.Metrics`.
pub fn v1(cgroup: &Cgroup) -> Vec<u8> {
    let mut all = Fields::default();
    if let Some(dir) = cgroup.controller("hugetlb") {
        for size in page_sizes(dir) {
            let value = |file: &str| number(dir, &format!("hugetlb.{size}.{file}"));
            let mut page = Fields::default();
            page.number(1, value("usage_in_bytes"));
            page.number(2, value("max_usage_in_bytes"));
            page.number(3, value("failcnt"));
            page.text(4, &size);
            all.message(1, &page);
        }
    }
    if let Some(dir) = cgroup.controller("pids") {
        all.message(2, &pids(dir));
    }
    if let Some(dir) = cgroup.controller("cpuacct").or_else(|| cgroup.controller("cpu")) {
        all.message(3, &cpu_v1(dir, cgroup.controller("cpu").unwrap_or(dir)));
    }
    if let Some(dir) = cgroup.controller("memory") {
        all.message(4, &memory_v1(dir));
        let mut oom = Fields::default();
        oom.table(
            &read(dir, "memory.oom_control"),
            &[("oom_kill_disable", 1), ("under_oom", 2), ("oom_kill", 3)],
        );
        all.message(9, &oom);
    }
    if let Some(dir) = cgroup.controller("blkio") {
        let mut blkio = Fields::default();
        for (tag, file) in
            [(1, "blkio.throttle.io_service_bytes_recursive"), (2, "blkio.throttle.io_serviced_recursive")]
        {
            entries_v1(&mut blkio, tag, &read(dir, file));
        }
        all.message(5, &blkio);
    }
    if let Some(dir) = cgroup.controller("rdma") {
        all.message(6, &rdma(dir));
    }
    all.0
}

fn pids(dir: &Path) -> Fields {
    let mut fields = Fields::default();
    fields.number(1, number(dir, "pids.current"));
    // No limit is none, not the largest number.
    fields.number(2, Some(number(dir, "pids.max")).filter(|limit| *limit != u64::MAX).unwrap_or(0));
    fields
}

/// Nanoseconds; `cpuacct.stat` counts hundredths of a second.
fn cpu_v1(account: &Path, cpu: &Path) -> Fields {
    const TICK: u64 = 10_000_000;
    let mut usage = Fields::default();
    usage.number(1, number(account, "cpuacct.usage"));
    for (name, value) in pairs(&read(account, "cpuacct.stat")) {
        usage.number(if name == "system" { 2 } else { 3 }, value.saturating_mul(TICK));
    }
    let each: Vec<u64> = read(account, "cpuacct.usage_percpu")
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    uint64::encode_packed(4, &each, &mut usage.0);
    let mut throttling = Fields::default();
    throttling
        .table(&read(cpu, "cpu.stat"), &[("nr_periods", 1), ("nr_throttled", 2), ("throttled_time", 3)]);
    let mut fields = Fields::default();
    fields.message(1, &usage);
    fields.message(2, &throttling);
    fields
}

fn memory_v1(dir: &Path) -> Fields {
    let mut fields = Fields::default();
    fields.table(&read(dir, "memory.stat"), MEMORY_V1);
    for (tag, name) in [(33, "memory"), (34, "memory.memsw"), (35, "memory.kmem"), (36, "memory.kmem.tcp")] {
        let value = |file: &str| number(dir, &format!("{name}.{file}"));
        let mut entry = Fields::default();
        entry.number(1, value("limit_in_bytes"));
        entry.number(2, value("usage_in_bytes"));
        entry.number(3, value("max_usage_in_bytes"));
        entry.number(4, value("failcnt"));
        fields.message(tag, &entry);
    }
    fields
}

/// `8:0 Read 123` lines; the total has no device.
fn entries_v1(fields: &mut Fields, tag: u32, text: &str) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, operation, value] = words[..] else { continue };
        let Some((major, minor)) = device.split_once(':') else { continue };
        let mut entry = Fields::default();
        entry.text(1, operation);
        entry.number(3, major.parse().unwrap_or(0));
        entry.number(4, minor.parse().unwrap_or(0));
        entry.number(5, value.parse().unwrap_or(0));
        fields.message(tag, &entry);
    }
}

fn rdma(dir: &Path) -> Fields {
    let mut fields = Fields::default();
    for (tag, file) in [(1, "rdma.current"), (2, "rdma.max")] {
        for line in read(dir, file).lines() {
            let mut words = line.split_whitespace();
            let mut entry = Fields::default();
            entry.text(1, words.next().unwrap_or_default());
            for word in words {
                match word.split_once('=') {
                    Some(("hca_handle", value)) => entry.number(2, value.parse().unwrap_or(u32::MAX.into())),
                    Some(("hca_object", value)) => entry.number(3, value.parse().unwrap_or(u32::MAX.into())),
                    _ => {}
                }
            }
            fields.message(tag, &entry);
        }
    }
    fields
}

/// The sizes of huge pages that the kernel counts here: `2MB`, `1GB`.
fn page_sizes(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut sizes: Vec<String> =
        names.filter_map(|name| Some(name.strip_prefix("hugetlb.")?.split('.').next()?.to_owned())).collect();
    sizes.sort();
    sizes.dedup();
    sizes
}

const MEMORY_V2: &[(&str, u32)] = &[
    ("anon", 1),
    ("file", 2),
    ("kernel_stack", 3),
    ("slab", 4),
    ("sock", 5),
    ("shmem", 6),
    ("file_mapped", 7),
    ("file_dirty", 8),
    ("file_writeback", 9),
    ("anon_thp", 10),
    ("inactive_anon", 11),
    ("active_anon", 12),
    ("inactive_file", 13),
    ("active_file", 14),
    ("unevictable", 15),
    ("slab_reclaimable", 16),
    ("slab_unreclaimable", 17),
    ("pgfault", 18),
    ("pgmajfault", 19),
    ("workingset_refault", 20),
    ("workingset_activate", 21),
    ("workingset_nodereclaim", 22),
    ("pgrefill", 23),
    ("pgscan", 24),
    ("pgsteal", 25),
    ("pgactivate", 26),
    ("pgdeactivate", 27),
    ("pglazyfree", 28),
    ("pglazyfreed", 29),
    ("thp_fault_alloc", 30),
    ("thp_collapse_alloc", 31),
    ("workingset_refault_anon", 39),
    ("workingset_refault_file", 40),
    ("workingset_activate_anon", 41),
    ("workingset_activate_file", 42),
];

/// `io.containerd.cgroups.v2.Metrics`.
pub fn v2(dir: &Path) -> Vec<u8> {
    let mut all = Fields::default();
    all.message(1, &pids(dir));
    let mut cpu = Fields::default();
    cpu.table(
        &read(dir, "cpu.stat"),
        &[
            ("usage_usec", 1),
            ("user_usec", 2),
            ("system_usec", 3),
            ("nr_periods", 4),
            ("nr_throttled", 5),
            ("throttled_usec", 6),
            ("nr_bursts", 8),
            ("burst_usec", 9),
        ],
    );
    cpu.message(7, &pressure(&read(dir, "cpu.pressure")));
    all.message(2, &cpu);
    let mut memory = Fields::default();
    memory.table(&read(dir, "memory.stat"), MEMORY_V2);
    for (tag, file) in [
        (32, "memory.current"),
        (33, "memory.max"),
        (34, "memory.swap.current"),
        (35, "memory.swap.max"),
        (36, "memory.peak"),
        (37, "memory.swap.peak"),
    ] {
        memory.number(tag, number(dir, file));
    }
    memory.message(38, &pressure(&read(dir, "memory.pressure")));
    all.message(4, &memory);
    all.message(5, &rdma(dir));
    all.message(6, &io_v2(dir));
    for size in page_sizes(dir) {
        let mut page = Fields::default();
        page.number(1, number(dir, &format!("hugetlb.{size}.current")));
        page.number(2, number(dir, &format!("hugetlb.{size}.max")));
        page.text(3, &size);
        let events = read(dir, &format!("hugetlb.{size}.events"));
        page.number(4, pairs(&events).find(|(name, _)| *name == "max").map_or(0, |(_, value)| value));
        all.message(7, &page);
    }
    let mut events = Fields::default();
    let names = [("low", 1), ("high", 2), ("max", 3), ("oom", 4), ("oom_kill", 5), ("oom_group_kill", 6)];
    events.table(&read(dir, "memory.events"), &names);
    all.message(8, &events);
    all.0
}

fn io_v2(dir: &Path) -> Fields {
    let mut fields = Fields::default();
    for line in read(dir, "io.stat").lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let mut entry = Fields::default();
        entry.number(1, major.parse().unwrap_or(0));
        entry.number(2, minor.parse().unwrap_or(0));
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            if let Some(tag) = ["rbytes", "wbytes", "rios", "wios"].iter().position(|name| *name == key) {
                entry.number([3, 4, 5, 6][tag], value.parse().unwrap_or(0));
            }
        }
        fields.message(1, &entry);
    }
    fields.message(2, &pressure(&read(dir, "io.pressure")));
    fields
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full …`.
fn pressure(text: &str) -> Fields {
    let mut fields = Fields::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let tag = if words.next() == Some("some") { 1 } else { 2 };
        let mut data = Fields::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "total" => data.number(4, value.parse().unwrap_or(0)),
                _ => {
                    let tag = ["avg10", "avg60", "avg300"].iter().position(|name| *name == key);
                    if let (Some(tag), Ok(value)) = (tag, value.parse::<f64>()) {
                        double::encode([1, 2, 3][tag], &value, &mut data.0);
                    }
                }
            }
        }
        fields.message(tag, &data);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_under_their_fields() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("pids.current", "3\n");
        write("pids.max", "max\n");
        write("cpu.stat", "usage_usec 300\nuser_usec 200\nsystem_usec 100\n");
        write("memory.current", "4096\n");
        write("memory.events", "low 0\noom_kill 2\n");
        write("cpu.pressure", "some avg10=0.50 avg60=0.00 avg300=0.00 total=7\n");
        let bytes = v2(dir.path());
        // pids {1: 3}; cpu {1: 300, 2: 200, 3: 100, 7: {1: {...}}}
        assert_eq!(&bytes[..4], &[0x0a, 2, 0x08, 3]);
        assert_eq!(&bytes[6..14], &[0x08, 0xac, 2, 0x10, 0xc8, 1, 0x18, 100]);
        // memory {32: 4096}
        assert!(bytes.windows(4).any(|window| window == [0x80, 0x02, 0x80, 0x20]));
        // memory_events {5: 2}
        assert_eq!(&bytes[bytes.len() - 4..], &[0x42, 2, 0x28, 2]);
    }
}
