//! Limits as properties of the version of cgroups that systemd works with.

use anyhow::Result;
use oci_spec::runtime::LinuxResources;

use super::super::Location;
use super::super::device_rules::Rule;
use super::super::devices::rules_v1;
use super::property;
use super::wire::Value;

/// Of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A hierarchy for each controller.
    V1,
    /// The unified one alone.
    V2,
}

impl Version {
    /// That of a container's cgroup.
    pub fn of(location: &Location) -> Self {
        if location.is_v2() { Self::V2 } else { Self::V1 }
    }

    /// The property that has systemd count reads and writes.
    pub const fn io_accounting(self) -> &'static str {
        match self {
            Self::V1 => "BlockIOAccounting",
            Self::V2 => "IOAccounting",
        }
    }

    /// The limits that systemd knows.
    ///
    /// # Errors
    /// A list of processors or a swap limit makes no sense.
    pub fn limits(self, resources: &LinuxResources) -> Result<Vec<(String, Value)>> {
        match self {
            Self::V1 => Ok(limits_v1(resources)),
            Self::V2 => property::limits(resources),
        }
    }

    /// Which devices may be used. On version 1 what systemd writes is all there is: what is refused of something allowed has
    /// to be gone from it.
    ///
    /// # Errors
    /// Rules that version 1 cannot hold.
    pub fn devices(self, rules: &[Rule]) -> Result<Vec<(String, Value)>> {
        Ok(match self {
            Self::V1 => property::devices(&rules_v1(rules)?),
            Self::V2 => property::devices(rules),
        })
    }
}

/// On version 1 systemd has no word for swap, and leaves processor sets to others.
fn limits_v1(resources: &LinuxResources) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: u64| all.push((name.to_owned(), Value::U64(value)));
    if let Some(limit) =
        resources.memory().as_ref().and_then(|memory| memory.limit()).filter(|limit| *limit != 0)
    {
        add("MemoryLimit", property::or_infinity(limit));
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0 && cpu.idle() != Some(1)) {
            add("CPUShares", shares);
        }
        property::quota(cpu).into_iter().for_each(|(name, value)| add(name, value));
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        add("TasksMax", property::or_infinity(pids.limit()));
    }
    let weight = resources.block_io().as_ref().and_then(|block| block.weight());
    if let Some(weight) = weight.filter(|weight| *weight != 0) {
        add("BlockIOWeight", weight.into());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_in_words_of_version_1() {
        let resources: LinuxResources = serde_json::from_value(json!({
            "memory": {"limit": 100, "swap": 150}, "pids": {"limit": -1}, "blockIO": {"weight": 300},
            "cpu": {"shares": 512, "quota": 50000, "period": 50000, "cpus": "0"}}))
        .unwrap();
        let wanted = [
            ("MemoryLimit", 100),
            ("CPUShares", 512),
            ("CPUQuotaPeriodUSec", 50_000),
            ("CPUQuotaPerSecUSec", 1_000_000),
            ("TasksMax", u64::MAX),
            ("BlockIOWeight", 300),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), Value::U64(value)));
        assert_eq!(Version::V1.limits(&resources).unwrap(), wanted);
    }
}
