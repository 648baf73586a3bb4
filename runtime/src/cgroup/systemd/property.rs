//! Limits and annotations as properties of a unit. The files are written as well, for what has no property; the
//! properties are there so that `systemctl daemon-reload` does not take the limits back.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use oci_spec::runtime::{LinuxCpu, LinuxResources};

use super::super::conversion::{blkio_to_io_weight, shares_to_weight, swap_alone};
use super::super::device_rules::{Kind, Rule};
use super::wire::Value;

type Property = (String, Value);

/// systemd's "no limit".
const INFINITY: u64 = u64::MAX;
/// The kernel's default period, in microseconds.
const PERIOD: u64 = 100_000;

/// The limits that systemd knows, on version 2.
///
/// # Errors
/// A list of processors or a swap limit makes no sense.
pub fn limits(resources: &LinuxResources) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: Value| all.push((name.to_owned(), value));
    let number = |value: i64| Value::U64(or_infinity(value));
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().filter(|limit| *limit != 0);
        if let Some(limit) = limit {
            add("MemoryMax", number(limit));
        }
        if let Some(swap) = swap_alone(limit, memory.swap())? {
            add("MemorySwapMax", Value::U64(swap.parse().unwrap_or(INFINITY)));
        }
        if let Some(reservation) = memory.reservation().filter(|value| *value != 0) {
            add("MemoryLow", number(reservation));
        }
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
            add("CPUWeight", Value::U64(shares_to_weight(shares)));
        }
        if cpu.idle() == Some(1) {
            add("CPUWeight", Value::U64(0));
        }
        quota(cpu).into_iter().for_each(|(name, value)| add(name, Value::U64(value)));
        for (name, list) in [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                add(name, Value::Bytes(bitmap(list)?));
            }
        }
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        add("TasksMax", number(pids.limit()));
    }
    if let Some(weight) =
        resources.block_io().as_ref().and_then(|block| block.weight()).filter(|one| *one != 0)
    {
        add("IOWeight", Value::U64(blkio_to_io_weight(weight)));
    }
    for (file, value) in resources.unified().iter().flatten() {
        if let Some(property) = from_file(file, value.trim())? {
            all.retain(|(name, _)| *name != property.0);
            all.push(property);
        }
    }
    Ok(all)
}

/// A file of `unified` as a property, where systemd has one.
fn from_file(file: &str, value: &str) -> Result<Option<Property>> {
    let name = match file {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => return Ok(Some(("AllowedCPUs".to_owned(), Value::Bytes(bitmap(value)?)))),
        "cpuset.mems" => return Ok(Some(("AllowedMemoryNodes".to_owned(), Value::Bytes(bitmap(value)?)))),
        _ => return Ok(None),
    };
    // A size that only the kernel reads (`1G`) stays the file's alone.
    let number = if value == "max" { Some(INFINITY) } else { value.parse().ok() };
    Ok(number.map(|number| (name.to_owned(), Value::U64(number))))
}

/// A limit, where -1 is none.
pub fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

/// How much of its processors a container may use.
pub fn quota(cpu: &LinuxCpu) -> Vec<(&'static str, u64)> {
    let period = cpu.period().filter(|period| *period != 0);
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let per_second = quota.map(|quota| quota_per_second(quota, period.unwrap_or(PERIOD)));
    let named = [("CPUQuotaPeriodUSec", period), ("CPUQuotaPerSecUSec", per_second)];
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// systemd rounds up to 1 % of a processor, so it is given whole hundredths.
fn quota_per_second(quota: i64, period: u64) -> u64 {
    let Ok(quota) = u64::try_from(quota) else { return INFINITY };
    (quota.saturating_mul(1_000_000) / period.max(1)).next_multiple_of(10_000)
}

/// `0-3,8` as bits, lowest first.
fn bitmap(list: &str) -> Result<Vec<u8>> {
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let parse = |text: &str| text.parse::<u16>().with_context(|| format!("cpuset \"{list}\""));
        for number in parse(first)?..=parse(last)? {
            let byte = usize::from(number / 8);
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            bits[byte] |= 1 << (number % 8);
        }
    }
    Ok(bits)
}

/// `DevicePolicy` and `DeviceAllow`, which knows whole majors and single devices, and no refusals: those are in our
/// own program beside it.
pub fn devices(rules: &[Rule]) -> Vec<Property> {
    if rules.first().is_none_or(|rule| rule.allow) {
        return vec![("DevicePolicy".to_owned(), Value::Text("auto".to_owned())), list(Vec::new())];
    }
    let mut allowed = Vec::new();
    for rule in rules.iter().filter(|rule| rule.allow) {
        let kinds = match rule.kind {
            None => &[Kind::Block, Kind::Char][..],
            Some(Kind::Block) => &[Kind::Block],
            Some(Kind::Char) => &[Kind::Char],
        };
        for kind in kinds {
            let (name, group) = match kind {
                Kind::Block => ("block", "block-"),
                Kind::Char => ("char", "char-"),
            };
            let device = match (rule.major, rule.minor) {
                (Some(major), Some(minor)) => format!("/dev/{name}/{major}:{minor}"),
                (Some(major), None) => format!("{group}{major}"),
                (None, _) => format!("{group}*"),
            };
            let text = rule.to_string();
            allowed.push((device, text.rsplit(' ').next().unwrap_or("rwm").to_owned()));
        }
    }
    vec![("DevicePolicy".to_owned(), Value::Text("strict".to_owned())), list(allowed)]
}

fn list(allowed: Vec<(String, String)>) -> Property {
    ("DeviceAllow".to_owned(), Value::Pairs(allowed))
}

/// `org.systemd.property.NAME`: a value as gvariant prints it. `…Sec` is in seconds, `…USec` on the wire.
///
/// # Errors
/// A value that is not understood, naming the annotation.
pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix("org.systemd.property.") else { continue };
        let named = || format!("annotation {key}=\"{text}\"");
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            bail!("{}: no name of a property", named());
        }
        let value = parse(text.trim()).with_context(named)?;
        all.push(
            match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U') && !stem.ends_with('N')) {
                Some(stem) => (format!("{stem}USec"), Value::U64(microseconds(&value).with_context(named)?)),
                None => (name.to_owned(), value),
            },
        );
    }
    Ok(all)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn microseconds(value: &Value) -> Result<u64> {
    let seconds = match value {
        Value::U32(value) => u64::from(*value),
        Value::U64(value) => *value,
        Value::I32(value) => u64::try_from(*value).context("negative")?,
        Value::I64(value) => u64::try_from(*value).context("negative")?,
        Value::F64(value) if *value >= 0.0 => return Ok((value * 1e6) as u64),
        _ => bail!("no number of seconds"),
    };
    Ok(seconds.saturating_mul(1_000_000))
}

fn parse(text: &str) -> Result<Value> {
    if let Some((kind, value)) = text.split_once(' ') {
        match kind {
            "int32" => return Ok(Value::I32(value.trim().parse()?)),
            "uint32" => return Ok(Value::U32(value.trim().parse()?)),
            "int64" => return Ok(Value::I64(value.trim().parse()?)),
            "uint64" => return Ok(Value::U64(value.trim().parse()?)),
            "double" => return Ok(Value::F64(value.trim().parse()?)),
            _ => {}
        }
    }
    match text {
        "true" => return Ok(Value::Bool(true)),
        "false" => return Ok(Value::Bool(false)),
        _ => {}
    }
    if let Some(items) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let mut list = Vec::new();
        let mut rest = items.trim();
        while !rest.is_empty() {
            let (item, after) = quoted(rest)?;
            list.push(item);
            rest = after.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        return Ok(Value::Texts(list));
    }
    if text.starts_with(['\'', '"']) {
        let (item, rest) = quoted(text)?;
        if !rest.trim().is_empty() {
            bail!("text after the closing quote");
        }
        return Ok(Value::Text(item));
    }
    if let Ok(value) = text.parse() {
        return Ok(Value::I32(value));
    }
    text.parse()
        .map(Value::F64)
        .ok()
        .context("neither a quoted text, a number, a boolean nor a list of texts")
}

/// A text in quotes, and what follows.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, char)| char).filter(|char| matches!(char, '\'' | '"'));
    let quote = quote.context("a list of something else than quoted texts")?;
    let mut item = String::new();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => item.extend(chars.next().map(|(_, char)| char)),
            char if char == quote => return Ok((item, &text[at + 1..])),
            char => item.push(char),
        }
    }
    bail!("no closing quote")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_as_properties() {
        let resources: LinuxResources = serde_json::from_value(json!({
            "memory": {"limit": 100, "swap": 150}, "cpu": {"quota": 50000, "cpus": "0,9-10"},
            "pids": {"limit": -1}, "unified": {"memory.max": "70", "memory.high": "1G"}}))
        .unwrap();
        let wanted = [
            ("MemorySwapMax", Value::U64(50)),
            ("CPUQuotaPerSecUSec", Value::U64(500_000)),
            ("AllowedCPUs", Value::Bytes(vec![1, 6])),
            ("TasksMax", Value::U64(u64::MAX)),
            ("MemoryMax", Value::U64(70)),
        ];
        let seen = limits(&resources).unwrap();
        assert_eq!(seen, wanted.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(quota_per_second(33_333, 100_000), 340_000);
    }

    #[test]
    fn annotations_as_properties() {
        let one = |name: &str, text: &str| {
            let map = BTreeMap::from([(format!("org.systemd.property.{name}"), text.to_owned())]);
            from_annotations(&map).map(|list| list[0].clone())
        };
        assert_eq!(
            one("CollectMode", "'inactive-or-failed'").unwrap().1,
            Value::Text("inactive-or-failed".into())
        );
        assert_eq!(
            one("After", "['a.service', \"b\\\"c\"]").unwrap().1,
            Value::Texts(vec!["a.service".into(), "b\"c".into()])
        );
        assert_eq!(
            one("TimeoutStopSec", "uint64 7").unwrap(),
            ("TimeoutStopUSec".into(), Value::U64(7_000_000))
        );
        assert_eq!(one("TimeoutStopUSec", "uint64 7").unwrap(), ("TimeoutStopUSec".into(), Value::U64(7)));
        assert_eq!(one("Delegate", "true").unwrap().1, Value::Bool(true));
        for (name, text) in
            [("x", "1"), ("Foo Bar", "1"), ("After", "[1]"), ("Name", "'open"), ("Name", "word")]
        {
            assert!(one(name, text).is_err(), "{name} {text}");
        }
    }
}
