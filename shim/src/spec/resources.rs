//! `linux.resources` from docker's `HostConfig`: for config.json and for `runtime update`.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result};
use contracts::container::{DeviceLimit, HostConfig};
use serde_json::{Map, Value, json};

/// The limits of `host`, without the device rules.
pub fn of(host: &HostConfig) -> Result<Value> {
    let mut all = Map::new();
    let mut put = |key: &str, value: Map<String, Value>| {
        if !value.is_empty() {
            all.insert(key.into(), Value::Object(value));
        }
    };
    put("memory", memory(host));
    put("cpu", cpu(host));
    put("blockIO", block_io(host)?);
    if let Some(limit) = host.pids_limit {
        // The spec's "no limit" is -1; docker also takes 0 for it.
        let limit = if limit <= 0 { -1 } else { limit };
        all.insert("pids".into(), json!({ "limit": limit }));
    }
    Ok(Value::Object(all))
}

fn memory(host: &HostConfig) -> Map<String, Value> {
    let mut memory = Map::new();
    for (key, value) in
        [("limit", host.memory), ("swap", host.memory_swap), ("reservation", host.memory_reservation)]
    {
        if value != 0 {
            memory.insert(key.into(), json!(value));
        }
    }
    if let Some(swappiness) = host.memory_swappiness {
        memory.insert("swappiness".into(), json!(swappiness));
    }
    if host.oom_kill_disable {
        memory.insert("disableOOMKiller".into(), json!(true));
    }
    memory
}

fn cpu(host: &HostConfig) -> Map<String, Value> {
    let mut cpu = Map::new();
    let (period, quota) = match host.nano_cpus {
        0 => (host.cpu_period, host.cpu_quota),
        nanos => (100_000, nanos / 10_000),
    };
    for (key, value) in [
        ("shares", host.cpu_shares),
        ("period", period),
        ("quota", quota),
        ("realtimePeriod", host.cpu_realtime_period),
        ("realtimeRuntime", host.cpu_realtime_runtime),
    ] {
        if value != 0 {
            cpu.insert(key.into(), json!(value));
        }
    }
    for (key, value) in [("cpus", &host.cpuset_cpus), ("mems", &host.cpuset_mems)] {
        if !value.is_empty() {
            cpu.insert(key.into(), json!(value));
        }
    }
    cpu
}

fn block_io(host: &HostConfig) -> Result<Map<String, Value>> {
    let mut io = Map::new();
    if host.blkio_weight != 0 {
        io.insert("weight".into(), json!(host.blkio_weight));
    }
    for (key, limits) in [
        ("weightDevice", &host.blkio_weight_device),
        ("throttleReadBpsDevice", &host.blkio_device_read_bps),
        ("throttleWriteBpsDevice", &host.blkio_device_write_bps),
        ("throttleReadIOPSDevice", &host.blkio_device_read_iops),
        ("throttleWriteIOPSDevice", &host.blkio_device_write_iops),
    ] {
        if !limits.is_empty() {
            let devices = limits.iter().map(device).collect::<Result<Vec<_>>>()?;
            io.insert(key.into(), json!(devices));
        }
    }
    Ok(io)
}

fn device(limit: &DeviceLimit) -> Result<Value> {
    let meta = fs::metadata(&limit.path).with_context(|| format!("stat {}", limit.path))?;
    let mut device = json!({ "major": libc::major(meta.rdev()), "minor": libc::minor(meta.rdev()) });
    if let Some(rate) = limit.rate {
        device["rate"] = json!(rate);
    }
    if let Some(weight) = limit.weight {
        device["weight"] = json!(weight);
    }
    Ok(device)
}
