//! Resource flags, checked as docker checks them.

use anyhow::Result;
use contracts::container::{DeviceLimit, HostConfig, Ulimit};
use contracts::fault;

use super::units::{number_list, size};
use crate::cli::ResourceFlags;

/// Docker's least memory limit: below it a container cannot start.
const LEAST_MEMORY: i64 = 6 << 20;

/// Sets what the flags name in `host`, then checks the whole.
pub fn apply(flags: &ResourceFlags, host: &mut HostConfig) -> Result<()> {
    memory(flags, host)?;
    cpu(flags, host)?;
    if let Some(limit) = flags.pids_limit {
        host.pids_limit = Some(limit);
    }
    if let Some(weight) = flags.blkio_weight {
        host.blkio_weight = weight;
    }
    let weight = |(path, value): (String, u64)| DeviceLimit {
        path,
        rate: None,
        weight: Some(u16::try_from(value).unwrap_or(u16::MAX)),
    };
    let rate = |(path, value)| DeviceLimit { path, rate: Some(value), weight: None };
    let all = |flag: &str, items: &[String], bytes: bool| -> Result<Vec<(String, u64)>> {
        items.iter().map(|item| device(flag, item, bytes)).collect()
    };
    let set = |to: &mut Vec<DeviceLimit>, from: Vec<DeviceLimit>| {
        if !from.is_empty() {
            *to = from;
        }
    };
    let items = all("blkio-weight-device", &flags.blkio_weight_device, false)?;
    set(&mut host.blkio_weight_device, items.into_iter().map(weight).collect());
    let items = all("device-read-bps", &flags.device_read_bps, true)?;
    set(&mut host.blkio_device_read_bps, items.into_iter().map(rate).collect());
    let items = all("device-write-bps", &flags.device_write_bps, true)?;
    set(&mut host.blkio_device_write_bps, items.into_iter().map(rate).collect());
    let items = all("device-read-iops", &flags.device_read_iops, false)?;
    set(&mut host.blkio_device_read_iops, items.into_iter().map(rate).collect());
    let items = all("device-write-iops", &flags.device_write_iops, false)?;
    set(&mut host.blkio_device_write_iops, items.into_iter().map(rate).collect());
    Ok(())
}

/// Whether this kernel knows weights of block IO: on cgroup v2 only cgroups below the root show it.
pub fn has_io_weight() -> bool {
    let has = |path: &str| std::path::Path::new("/sys/fs/cgroup").join(path).exists();
    if !has("cgroup.controllers") {
        return has("blkio/blkio.weight") || has("blkio/blkio.bfq.weight");
    }
    let below = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    below
        .map(|entry| entry.path())
        .any(|path| path.join("io.weight").exists() || path.join("io.bfq.weight").exists())
}

fn memory(flags: &ResourceFlags, host: &mut HostConfig) -> Result<()> {
    let before = (host.memory, host.memory_swap);
    if let Some(text) = &flags.memory {
        host.memory = size("-m, --memory", text)?;
        if (1..LEAST_MEMORY).contains(&host.memory) {
            fault!(Usage, "Minimum memory limit allowed is 6MB");
        }
    }
    if let Some(text) = &flags.memory_reservation {
        host.memory_reservation = size("--memory-reservation", text)?;
    }
    match flags.memory_swap.as_deref() {
        Some("-1") => host.memory_swap = -1,
        Some(text) => host.memory_swap = size("--memory-swap", text)?,
        // Docker gives as much swap as memory where only memory is limited.
        None if before == (0, 0) && host.memory > 0 => host.memory_swap = host.memory.saturating_mul(2),
        None => {}
    }
    if host.memory == 0 && host.memory_swap > 0 {
        fault!(Usage, "You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if host.memory_swap > 0 && host.memory_swap < host.memory {
        if flags.memory_swap.is_none() {
            fault!(
                Usage,
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
            );
        }
        fault!(Usage, "Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        fault!(Usage, "Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if let Some(swappiness) = flags.memory_swappiness {
        if !(-1..=100).contains(&swappiness) {
            fault!(Usage, "invalid value: {swappiness}. Valid memory swappiness range is 0-100");
        }
        host.memory_swappiness = (swappiness >= 0).then_some(swappiness);
    }
    host.oom_kill_disable |= flags.oom_kill_disable;
    Ok(())
}

fn cpu(flags: &ResourceFlags, host: &mut HostConfig) -> Result<()> {
    if let Some(text) = &flags.cpus {
        host.nano_cpus = nano_cpus(text)?;
        let online = std::thread::available_parallelism().map_or(1, usize::from);
        let most = i64::try_from(online).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        if host.nano_cpus != 0 && !(10_000_000..=most).contains(&host.nano_cpus) {
            fault!(
                Usage,
                "range of CPUs is from 0.01 to {online}.00, as there are only {online} CPUs available"
            );
        }
    }
    let set = |to: &mut i64, from: Option<i64>| *to = from.unwrap_or(*to);
    set(&mut host.cpu_shares, flags.cpu_shares);
    set(&mut host.cpu_period, flags.cpu_period);
    set(&mut host.cpu_quota, flags.cpu_quota);
    set(&mut host.cpu_realtime_period, flags.cpu_rt_period);
    set(&mut host.cpu_realtime_runtime, flags.cpu_rt_runtime);
    if host.nano_cpus > 0 && host.cpu_quota != 0 {
        fault!(Usage, "Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_period != 0 {
        fault!(Usage, "Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        fault!(Usage, "CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        fault!(Usage, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if let Some(list) = &flags.cpuset_cpus {
        check_set("CPUs", list, "/sys/devices/system/cpu/online")?;
        host.cpuset_cpus.clone_from(list);
    }
    if let Some(list) = &flags.cpuset_mems {
        check_set("memory nodes", list, "/sys/devices/system/node/online")?;
        host.cpuset_mems.clone_from(list);
    }
    Ok(())
}

fn check_set(what: &str, list: &str, available: &str) -> Result<()> {
    let Some(asked) = number_list(list) else { fault!(Usage, "Invalid value {list} for cpuset {what}") };
    // A kernel without NUMA has no list of nodes: then there is node 0.
    let available = std::fs::read_to_string(available).unwrap_or_else(|_| "0".into());
    let known = number_list(available.trim()).unwrap_or_default();
    if asked.iter().any(|number| !known.contains(number)) {
        fault!(
            Usage,
            "Requested {what} are not available - requested {list}, available: {}",
            available.trim()
        );
    }
    Ok(())
}

fn nano_cpus(text: &str) -> Result<i64> {
    match text.parse::<f64>() {
        Ok(cpus) if cpus.is_finite() && cpus >= 0.0 => {
            #[allow(clippy::cast_possible_truncation)]
            let nanos = (cpus * 1e9).round() as i64;
            Ok(nanos)
        }
        _ => fault!(
            Usage,
            "invalid argument \"{text}\" for \"--cpus\" flag: failed to parse {text} as a rational number"
        ),
    }
}

fn device(flag: &str, text: &str, bytes: bool) -> Result<(String, u64)> {
    let parsed = text.rsplit_once(':').and_then(|(path, value)| {
        let value = if bytes { size(flag, value).ok()? } else { value.parse().ok()? };
        Some((path.to_owned(), u64::try_from(value).ok()?))
    });
    match parsed {
        Some((path, value)) if path.starts_with("/dev/") => Ok((path, value)),
        _ => fault!(
            Usage,
            "invalid argument \"{text}\" for \"--{flag}\" flag: invalid rate for device: {text}. The correct format is \
             <device-path>:<number>[<unit>]"
        ),
    }
}

/// `--ulimit nofile=100:200`.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    match contracts::flag::ulimit::parse(text) {
        Ok(limit) => Ok(limit),
        Err(why) => fault!(Usage, "invalid argument \"{text}\" for \"--ulimit\" flag: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_memory(memory: Option<&str>, swap: Option<&str>) -> Result<HostConfig> {
        let mut host = HostConfig::default();
        let flags = ResourceFlags {
            memory: memory.map(Into::into),
            memory_swap: swap.map(Into::into),
            ..ResourceFlags::default()
        };
        apply(&flags, &mut host).map(|()| host)
    }

    #[test]
    fn memory_and_swap_belong_together() {
        assert_eq!(apply_memory(Some("64m"), None).unwrap().memory_swap, 128 << 20);
        assert_eq!(apply_memory(Some("64m"), Some("-1")).unwrap().memory_swap, -1);
        for (memory, swap) in [(Some("3m"), None), (Some("64m"), Some("32m")), (None, Some("32m"))] {
            assert!(apply_memory(memory, swap).is_err());
        }
    }

    #[test]
    fn device_rates() {
        assert_eq!(device("device-read-bps", "/dev/vda:2M", true).unwrap(), ("/dev/vda".into(), 2 << 20));
        assert!(device("device-read-bps", "/dev/vda:x", true).is_err());
        assert!(device("device-read-iops", "/dev/vda:2M", false).is_err());
    }
}
