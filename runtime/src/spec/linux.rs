//! `linux`: namespaces, id maps, devices and the rest of config-linux.md.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::or_default;
use super::seccomp::Seccomp;

/// `linux`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// New namespaces, and those to join.
    #[serde(deserialize_with = "or_default")]
    pub namespaces: Vec<Namespace>,
    /// User ids of a new user namespace.
    #[serde(deserialize_with = "or_default")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of a new user namespace.
    #[serde(deserialize_with = "or_default")]
    pub gid_mappings: Vec<IdMapping>,
    /// Offsets of a new time namespace, by clock.
    #[serde(deserialize_with = "or_default")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    /// Device nodes besides the usual ones.
    #[serde(deserialize_with = "or_default")]
    pub devices: Vec<Device>,
    /// Host network devices to move into the container, by name.
    #[serde(deserialize_with = "or_default")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// Where in the cgroup hierarchy.
    pub cgroups_path: Option<PathBuf>,
    /// Limits.
    pub resources: Option<LinuxResources>,
    /// System call filter.
    pub seccomp: Option<Seccomp>,
    /// Kernel parameters of the container's namespaces.
    #[serde(deserialize_with = "or_default")]
    pub sysctl: BTreeMap<String, String>,
    /// `shared`, `slave`, `private` or `unbindable`, each also with a leading `r`.
    #[serde(deserialize_with = "or_default")]
    pub rootfs_propagation: String,
    /// Paths to hide.
    #[serde(deserialize_with = "or_default")]
    pub masked_paths: Vec<PathBuf>,
    /// Paths to make read-only.
    #[serde(deserialize_with = "or_default")]
    pub readonly_paths: Vec<PathBuf>,
    /// SELinux label of the mounts.
    #[serde(deserialize_with = "or_default")]
    pub mount_label: String,
    /// Execution domain.
    pub personality: Option<Personality>,
    /// NUMA policy.
    pub memory_policy: Option<MemoryPolicy>,
    /// Cache and memory bandwidth.
    pub intel_rdt: Option<IntelRdt>,
}

/// One of `namespaces`.
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Join this one; a new one where empty.
    #[serde(default, deserialize_with = "or_default")]
    pub path: PathBuf,
}

/// A range of ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdMapping {
    /// First id inside.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// First id outside.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// One of `timeOffsets`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(deserialize_with = "or_default")]
    pub secs: i64,
    /// Nanoseconds.
    #[serde(deserialize_with = "or_default")]
    pub nanosecs: u32,
}

/// One of `devices`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Path in the container.
    pub path: PathBuf,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    #[serde(default, deserialize_with = "or_default")]
    pub major: u64,
    /// Minor number.
    #[serde(default, deserialize_with = "or_default")]
    pub minor: u64,
    /// Permission bits; 0666 where absent.
    #[serde(default)]
    pub file_mode: Option<u32>,
    /// Owner.
    #[serde(default, deserialize_with = "or_default")]
    pub uid: u32,
    /// Group.
    #[serde(default, deserialize_with = "or_default")]
    pub gid: u32,
}

/// One of `netDevices`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NetDevice {
    /// Its name in the container; the same as outside where empty.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
}

impl NetDevice {
    /// Its name in the container, where the host calls it `outside`.
    #[must_use]
    pub fn name_inside<'a>(&'a self, outside: &'a str) -> &'a str {
        if self.name.is_empty() { outside } else { &self.name }
    }
}

/// `intelRdt`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    /// Class of service; one named after the container where empty.
    #[serde(rename = "closID", deserialize_with = "or_default")]
    pub clos_id: String,
    /// Cache allocation: `L3:0=f;1=f0`.
    #[serde(deserialize_with = "or_default")]
    pub l3_cache_schema: String,
    /// Memory bandwidth: `MB:0=20;1=70`.
    #[serde(deserialize_with = "or_default")]
    pub mem_bw_schema: String,
    /// Lines of any kind.
    #[serde(deserialize_with = "or_default")]
    pub schemata: Vec<String>,
    /// A monitoring group of its own.
    #[serde(deserialize_with = "or_default")]
    pub enable_monitoring: bool,
}

/// `personality`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Personality {
    /// `LINUX` or `LINUX32`.
    pub domain: String,
    /// None is defined.
    #[serde(default, deserialize_with = "or_default")]
    pub flags: Vec<String>,
}

/// `memoryPolicy`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct MemoryPolicy {
    /// `MPOL_…`.
    pub mode: String,
    /// Nodes such as `0-1,3`.
    #[serde(default, deserialize_with = "or_default")]
    pub nodes: String,
    /// `MPOL_F_…`.
    #[serde(default, deserialize_with = "or_default")]
    pub flags: Vec<String>,
}
