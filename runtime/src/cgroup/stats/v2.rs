//! The numbers from version 2 files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{
    Blkio, BlkioEntry, Cpu, CpuUsage, Hugetlb, Memory, MemoryEntry, MemoryEvents, Psi, PsiLine, Stats,
    Throttling, number, table, text,
};

pub(super) fn read(dir: &Path) -> Stats {
    let mut stats = Stats { cpu: cpu(dir), memory: memory(dir), blkio: blkio(dir), ..Stats::default() };
    stats.pids.current = number(dir, "pids.current");
    stats.pids.limit = number(dir, "pids.max");
    stats.hugetlb = hugetlb(dir);
    stats
}

fn cpu(dir: &Path) -> Cpu {
    let stat = table(&text(dir, "cpu.stat"));
    let of = |name| stat.get(name).copied().unwrap_or(0);
    Cpu {
        usage: CpuUsage {
            total: of("usage_usec") * 1000,
            kernel: of("system_usec") * 1000,
            user: of("user_usec") * 1000,
            ..CpuUsage::default()
        },
        throttling: Throttling {
            periods: of("nr_periods"),
            throttled_periods: of("nr_throttled"),
            throttled_time: of("throttled_usec") * 1000,
        },
        psi: psi(&text(dir, "cpu.pressure")),
    }
}

fn memory(dir: &Path) -> Memory {
    // No limit is shown as the largest number, as runc does.
    let limit = |file: &str| match text(dir, file).trim() {
        "max" => u64::MAX,
        value => value.parse().unwrap_or(0),
    };
    let raw = table(&text(dir, "memory.stat"));
    let events = table(&text(dir, "memory.events"));
    let event = |name| events.get(name).copied().unwrap_or(0);
    let usage = MemoryEntry {
        limit: limit("memory.max"),
        usage: number(dir, "memory.current"),
        max: number(dir, "memory.peak"),
        failcnt: event("max"),
    };
    // With the memory, as version 1 and runc count it. The highest sum is known to nobody.
    let swap = MemoryEntry {
        limit: limit("memory.swap.max").saturating_add(usage.limit),
        usage: number(dir, "memory.swap.current").saturating_add(usage.usage),
        max: 0,
        failcnt: table(&text(dir, "memory.swap.events")).get("fail").copied().unwrap_or(0),
    };
    Memory {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        psi: psi(&text(dir, "memory.pressure")),
        event_count: MemoryEvents {
            low: event("low"),
            high: event("high"),
            max: event("max"),
            oom: event("oom"),
            oom_kill: event("oom_kill"),
        },
        ..Memory::default()
    }
}

fn blkio(dir: &Path) -> Blkio {
    let io = text(dir, "io.stat");
    Blkio {
        io_service_bytes_recursive: entries(
            &io,
            &[("rbytes", "Read"), ("wbytes", "Write"), ("dbytes", "Discard")],
        ),
        io_serviced_recursive: entries(&io, &[("rios", "Read"), ("wios", "Write"), ("dios", "Discard")]),
        psi: psi(&text(dir, "io.pressure")),
        ..Blkio::default()
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 …`
fn entries(text: &str, keys: &[(&str, &str)]) -> Vec<BlkioEntry> {
    let mut all = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let device = fields.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(major, minor)| (major.parse(), minor.parse())) else {
            continue;
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            if let (Some((_, op)), Ok(value)) = (keys.iter().find(|(known, _)| *known == key), value.parse())
            {
                all.push(BlkioEntry { major, minor, op: (*op).to_owned(), value });
            }
        }
    }
    all
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same for `full`.
fn psi(text: &str) -> Option<Psi> {
    let line = |kind: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let of = |key: &str| {
            rest.split_ascii_whitespace().find_map(|field| field.strip_prefix(key)?.strip_prefix('='))
        };
        let average = |key| of(key)?.parse().ok();
        Some(PsiLine {
            avg10: average("avg10")?,
            avg60: average("avg60")?,
            avg300: average("avg300")?,
            total: of("total")?.parse().ok()?,
        })
    };
    Some(Psi { some: line("some ")?, full: line("full ").unwrap_or_default() })
}

fn hugetlb(dir: &Path) -> BTreeMap<String, Hugetlb> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let size = name.to_str().and_then(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".current"));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let events = table(&text(dir, &format!("hugetlb.{size}.events")));
        let one = Hugetlb {
            usage: number(dir, &format!("hugetlb.{size}.current")),
            max: 0,
            failcnt: events.get("max").copied().unwrap_or(0),
        };
        all.insert(size.to_owned(), one);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_and_pressure() {
        let list = entries("8:0 rbytes=1 wbytes=2 rios=3\n", &[("rbytes", "Read"), ("wbytes", "Write")]);
        assert_eq!(
            list.iter().map(|one| (one.op.as_str(), one.value)).collect::<Vec<_>>(),
            [("Read", 1), ("Write", 2)]
        );
        let seen = psi(
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
        );
        let seen = seen.unwrap();
        assert_eq!((seen.some.total, seen.full.total), (7, 2));
        assert!((seen.some.avg10 - 1.5).abs() < 1e-9);
        assert!(psi("").is_none());
    }
}
