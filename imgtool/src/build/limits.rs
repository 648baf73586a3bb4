//! What RUN steps may use: memory, processors, shared memory, process limits.

use anyhow::Result;
use contracts::container::Ulimit;
use contracts::fault;
use contracts::flag::{self, size};
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

/// `64m`, `1g`, `4096`: bytes, in units of 1024 as docker reads them. -1 stands for no limit.
///
/// # Errors
/// Anything else.
pub fn bytes(text: &str) -> Result<i64> {
    match size::memory(text) {
        Some(bytes) => Ok(bytes),
        None if text == "-1" => Ok(-1),
        None => fault!(Usage, "invalid size: '{text}'"),
    }
}

/// `--ulimit nofile=1024:2048`.
///
/// # Errors
/// Anything else.
pub fn ulimit(text: &str) -> Result<Ulimit> {
    match flag::ulimit::parse(text) {
        Ok(limit) => Ok(limit),
        Err(why) => fault!(Usage, "{why}"),
    }
}

/// As config.json has it: its greatest number is no limit.
fn rlimit(limit: &Ulimit) -> Value {
    let number = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    let name = format!("RLIMIT_{}", limit.name.to_ascii_uppercase());
    json!({"type": name, "soft": number(limit.soft), "hard": number(limit.hard)})
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
            spec["process"]["rlimits"] = self.ulimits.iter().map(rlimit).collect();
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
    fn limits_of_processes_are_those_of_config_json() {
        assert_eq!(bytes("-1").unwrap(), -1);
        let limit = rlimit(&ulimit("nofile=10:-1").unwrap());
        assert_eq!(limit, json!({"type": "RLIMIT_NOFILE", "soft": 10, "hard": u64::MAX}));
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
