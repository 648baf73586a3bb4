//! What RUN steps may use: memory, processors, shared memory, process limits.

use anyhow::Result;
use contracts::fault;
use serde::Serialize;
use serde_json::{Value, json};

/// The limits of every RUN step; nothing set is no limit.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Limits {
    /// `--memory`, in bytes.
    pub memory: Option<i64>,
    /// `--memory-swap`: memory and swap together, in bytes; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, in microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, in microseconds.
    pub cpu_quota: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
}

/// `--ulimit nofile=1024:2048`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ulimit {
    /// `RLIMIT_NOFILE`.
    name: String,
    soft: u64,
    hard: u64,
}

impl std::str::FromStr for Ulimit {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        const NAMES: [&str; 15] = [
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ];
        let Some((name, values)) = text.split_once('=') else {
            fault!(Usage, "invalid ulimit argument: {text}: NAME=SOFT[:HARD] expected")
        };
        if !NAMES.contains(&name) {
            fault!(Usage, "invalid ulimit type: {name}");
        }
        let number = |text: &str| match text {
            "-1" => Some(u64::MAX),
            text => text.parse().ok(),
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (Some(soft), Some(hard)) = (number(soft), number(hard)) else {
            fault!(Usage, "invalid ulimit argument: {text}: a limit is a number, or -1 for none")
        };
        if soft > hard {
            fault!(Usage, "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
        }
        Ok(Self { name: format!("RLIMIT_{}", name.to_ascii_uppercase()), soft, hard })
    }
}

/// `64m`, `1g`, `4096`: bytes, in units of 1024 as docker reads them. -1 stands for no limit.
///
/// # Errors
/// Anything else.
pub fn bytes(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => fault!(Usage, "invalid size: '{text}'"),
    };
    let Ok(number) = number.parse::<f64>() else { fault!(Usage, "invalid size: '{text}'") };
    let bytes = number * 1024f64.powi(power);
    // Beyond 2^53 the number is not exact, and no memory is that large.
    #[expect(clippy::cast_possible_truncation)]
    if bytes < 9e15 { Ok(bytes as i64) } else { fault!(Usage, "invalid size: '{text}' is too large") }
}

impl Limits {
    /// Puts them into the config of the container `id`.
    pub fn apply(&self, spec: &mut Value, id: &str) {
        let resources = &mut spec["linux"]["resources"];
        let mut set = |group: &str, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                resources[group][key] = value;
            }
        };
        set("memory", "limit", self.memory.map(Into::into));
        set("memory", "swap", self.memory_swap.map(Into::into));
        set("cpu", "shares", self.cpu_shares.map(Into::into));
        set("cpu", "period", self.cpu_period.map(Into::into));
        set("cpu", "quota", self.cpu_quota.map(Into::into));
        set("cpu", "cpus", self.cpuset_cpus.clone().map(Into::into));
        set("cpu", "mems", self.cpuset_mems.clone().map(Into::into));
        if let Some(parent) = &self.cgroup_parent {
            let below = format!("/{}/{id}", parent.trim_matches('/'));
            spec["linux"]["cgroupsPath"] = json!(below);
        }
        if !self.ulimits.is_empty() {
            let limits = self.ulimits.iter();
            let limits: Vec<Value> =
                limits.map(|one| json!({"type": one.name, "soft": one.soft, "hard": one.hard})).collect();
            spec["process"]["rlimits"] = json!(limits);
        }
        let mounts = spec["mounts"].as_array_mut();
        let shm = mounts.into_iter().flatten().find(|mount| mount["destination"] == "/dev/shm");
        if let (Some(size), Some(options)) =
            (self.shm_size, shm.and_then(|mount| mount["options"].as_array_mut()))
        {
            options.retain(|option| !option.as_str().is_some_and(|text| text.starts_with("size=")));
            options.push(json!(format!("size={size}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_limits_are_dockers() {
        for (text, expect) in [("64m", 64 << 20), ("1.5k", 1536), ("2GB", 2 << 30), ("7", 7), ("-1", -1)] {
            assert_eq!(bytes(text).unwrap(), expect, "{text}");
        }
        for bad in ["", "m", "1x", "-2", "1e99t"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        let limit: Ulimit = "nofile=10:20".parse().unwrap();
        assert_eq!((limit.name.as_str(), limit.soft, limit.hard), ("RLIMIT_NOFILE", 10, 20));
        for bad in ["nofile", "x=1", "nofile=2:1", "nofile=a"] {
            assert!(bad.parse::<Ulimit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_shared_memory_of_the_default_mount_changes() {
        let mut spec = json!({"mounts": contracts::sandbox::mounts()});
        let limits = Limits { shm_size: Some(4096), memory: Some(5), ..Limits::default() };
        limits.apply(&mut spec, "x");
        assert!(spec.to_string().contains("size=4096") && spec["linux"]["resources"]["memory"]["limit"] == 5);
        assert_eq!(
            spec["mounts"].as_array().unwrap().len(),
            contracts::sandbox::mounts().as_array().unwrap().len()
        );
    }
}
