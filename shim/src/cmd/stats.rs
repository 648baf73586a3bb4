//! `shim stats`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use contracts::exit::Exit;
use contracts::output::template::Format;
use serde_json::{Value, json};

use super::ps::{self, Row};
use crate::cli::StatsFlags;
use crate::container::{Store, short, status};
use crate::show;

const COLUMNS: &str = "{{.ID}}\\t{{.Name}}\\t{{.CPUPerc}}\\t{{.MemUsage}}\\t{{.MemPerc}}\\t{{.NetIO}}\\t{{.BlockIO}}\\t{{.PIDs}}";

const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("BlockIO", "BLOCK I/O"),
];

/// What the kernel counted.
#[derive(Default, Clone, Copy)]
struct Sample {
    cpu: u64,
    memory: u64,
    limit: u64,
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
    pids: u64,
}

pub fn run(store: &Store, flags: &StatsFlags) -> Result<Exit> {
    let format = Format::parse(flags.format.as_deref(), COLUMNS)?;
    let ids = flags.containers.iter().map(|name| store.resolve(name)).collect::<Result<Vec<_>>>()?;
    let mut before: BTreeMap<String, (Sample, Instant)> = BTreeMap::new();
    let mut first = true;
    loop {
        let rows = rows(store, flags, &ids)?;
        let mut values = Vec::new();
        for row in &rows {
            let now = sample(row);
            let last = before.insert(row.record.id.clone(), (now, Instant::now()));
            values.push(value(row, &now, last, flags.no_trunc));
        }
        // The first look has nothing to compare with: it is only the beginning of the second.
        if first && !rows.is_empty() {
            first = false;
            sleep(Duration::from_millis(if flags.no_stream { 250 } else { 1000 * flags.interval }));
            continue;
        }
        let clear =
            if flags.no_stream || flags.no_reset || flags.format.is_some() { "" } else { "\x1b[2J\x1b[H" };
        show::text(&format!("{clear}{}", format.render(HEADINGS, &values)?))?;
        if flags.no_stream {
            return Ok(Exit::Ok);
        }
        sleep(Duration::from_secs(flags.interval));
    }
}

fn rows(store: &Store, flags: &StatsFlags, ids: &[String]) -> Result<Vec<Row>> {
    if ids.is_empty() {
        let mut rows = ps::rows(store)?;
        rows.retain(|row| flags.all || row.status.state.is_live());
        return Ok(rows);
    }
    let one = |id: &String| Ok(Row { record: store.load(id)?, status: status::read(store, id)? });
    ids.iter().map(one).collect()
}

/// The container's cgroup per controller (v1) or for all (`""`, v2).
fn cgroups(pid: i32) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for line in fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            found.insert(String::new(), Path::new("/sys/fs/cgroup").join(path));
        }
        for controller in controllers.split(',').filter(|name| !name.is_empty()) {
            found.insert(controller.to_owned(), Path::new("/sys/fs/cgroup").join(controllers).join(path));
        }
    }
    found
}

fn sample(row: &Row) -> Sample {
    let Some(process) = row.status.process.filter(|_| row.status.state.is_live()) else {
        return Sample::default();
    };
    let groups = cgroups(process.pid);
    let file = |controller: &str, name: &str| {
        groups.get(controller).and_then(|path| fs::read_to_string(path.join(name)).ok()).unwrap_or_default()
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let key = |text: &str, key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    let mut sample = Sample::default();
    let v2 = crate::spec::is_cgroup_v2();
    if v2 {
        sample.cpu = key(&file("", "cpu.stat"), "usage_usec ") * 1000;
        let cache = key(&file("", "memory.stat"), "inactive_file ");
        sample.memory = number(&file("", "memory.current")).unwrap_or_default().saturating_sub(cache);
        sample.limit = number(&file("", "memory.max")).unwrap_or(u64::MAX);
        sample.pids = number(&file("", "pids.current")).unwrap_or_default();
        for word in file("", "io.stat").split_whitespace() {
            match word.split_once('=') {
                Some(("rbytes", bytes)) => sample.read += number(bytes).unwrap_or_default(),
                Some(("wbytes", bytes)) => sample.written += number(bytes).unwrap_or_default(),
                _ => {}
            }
        }
    } else {
        sample.cpu = number(&file("cpuacct", "cpuacct.usage")).unwrap_or_default();
        let cache = key(&file("memory", "memory.stat"), "total_inactive_file ");
        sample.memory =
            number(&file("memory", "memory.usage_in_bytes")).unwrap_or_default().saturating_sub(cache);
        sample.limit = number(&file("memory", "memory.limit_in_bytes")).unwrap_or(u64::MAX);
        sample.pids = number(&file("pids", "pids.current")).unwrap_or_default();
        for line in file("blkio", "blkio.throttle.io_service_bytes").lines() {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [_, "Read", bytes] => sample.read += number(bytes).unwrap_or_default(),
                [_, "Write", bytes] => sample.written += number(bytes).unwrap_or_default(),
                _ => {}
            }
        }
    }
    let machine =
        key(&fs::read_to_string("/proc/meminfo").unwrap_or_default().replace(" kB", ""), "MemTotal:") * 1024;
    sample.limit = sample.limit.min(machine);
    traffic(process.pid, &mut sample);
    sample
}

fn traffic(pid: i32, sample: &mut Sample) {
    for line in fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default().lines().skip(2) {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        if name.trim() != "lo" && numbers.len() > 8 {
            sample.received += numbers[0];
            sample.sent += numbers[8];
        }
    }
}

#[allow(clippy::cast_precision_loss)] // two digits are shown
fn value(row: &Row, now: &Sample, last: Option<(Sample, Instant)>, no_trunc: bool) -> Value {
    let cpu = last.map_or(0.0, |(last, at)| {
        let elapsed = at.elapsed().as_nanos().max(1) as f64;
        now.cpu.saturating_sub(last.cpu) as f64 / elapsed * 100.0
    });
    let percent = if now.limit == 0 { 0.0 } else { now.memory as f64 / now.limit as f64 * 100.0 };
    let decimal = contracts::output::human::size;
    json!({
        "ID": if no_trunc { &row.record.id } else { short(&row.record.id) },
        "Container": row.record.id,
        "Name": row.record.name,
        "CPUPerc": format!("{cpu:.2}%"),
        "MemUsage": format!("{} / {}", binary(now.memory), binary(now.limit)),
        "MemPerc": format!("{percent:.2}%"),
        "NetIO": format!("{} / {}", decimal(now.received), decimal(now.sent)),
        "BlockIO": format!("{} / {}", decimal(now.read), decimal(now.written)),
        "PIDs": now.pids.to_string(),
    })
}

/// Powers of 1024 with four digits, as docker shows memory.
#[allow(clippy::cast_precision_loss)]
fn binary(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024.0 {
        let Some(next) = units.next() else { break };
        (value, unit) = (value / 1024.0, next);
    }
    let digits = match value {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::binary;

    #[test]
    fn memory_sizes() {
        for (bytes, text) in [(0, "0B"), (339_968, "332KiB"), (262_144_000, "250MiB"), (1 << 30, "1GiB")] {
            assert_eq!(binary(bytes), text);
        }
    }
}
