//! A supervised container's files: `STORE/containers/<id>/container.json` (what was asked, written by the command
//! line) and `status.json` (what happened, written by the supervisor).
//!
//! Both carry the keys of docker's `inspect`, so that showing them is serialising them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::network;
use crate::process::Process;

/// `container.json`: everything that outlives a run of the container.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Container {
    /// Format of this document: 1.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// Unique among containers, without a slash.
    pub name: String,
    /// RFC 3339, UTC, nanoseconds.
    pub created: String,
    /// The image as the user named it.
    pub image: String,
    /// The image's id, `sha256:…`; empty for a container without an image.
    pub image_id: String,
    /// `linux/amd64`.
    pub platform: String,
    /// The program, before a wrapping init.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What belongs to the container wherever it runs.
    pub config: Config,
    /// What belongs to this host.
    pub host_config: HostConfig,
    /// The mounts the user or the image asked for.
    pub mounts: Vec<MountPoint>,
    /// What `netctl up` is asked at each start.
    pub network: network::Request,
    /// The OCI runtime's program.
    pub runtime: PathBuf,
    /// Further arguments before the runtime's verb.
    pub runtime_args: Vec<String>,
    /// What to do with an unhealthy container: `none`, `kill`, `restart` or `stop`; empty for `none`.
    pub health_on_failure: String,
    /// What else podman's flags ask of health checks.
    pub health_more: HealthMore,
    /// Mask of the modes of new files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Seconds after which it is killed; 0 for never.
    #[serde(skip_serializing_if = "is_never")]
    pub run_timeout: u64,
    /// Those of /etc/hosts and /etc/hostname that stay the image's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_files: Vec<String>,
}

/// Docker's `Config`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)] // the keys of docker's API, described there
#[allow(clippy::struct_excessive_bools)]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Vec<String>,
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Value>>,
    pub working_dir: String,
    pub entrypoint: Option<Vec<String>>,
    pub on_build: Option<Value>,
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// Docker's `HEALTHCHECK`; durations in nanoseconds, 0 for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", "…"]`, `["NONE"]` or empty to inherit.
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_never(value: &u64) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// Podman's further wishes about health checks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthMore {
    /// The check that comes first: until it has passed, failures do not count. Its `retries` failures restart the
    /// container, 0 never do.
    pub startup: Option<Healthcheck>,
    /// Successes that `startup` needs; 0 is 1.
    pub startup_success: u32,
    /// A directory for `<id>-healthcheck.log`, or empty.
    pub log_dir: String,
    /// Results that are kept; 0 for all, 5 where it is not said.
    pub max_log_count: Option<u32>,
    /// Bytes kept of each output; 0 for all, 4096 where it is not said.
    pub max_log_size: Option<u32>,
}

/// Docker's `HostConfig`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)] // the keys of docker's API, described there
#[allow(clippy::struct_excessive_bools)]
pub struct HostConfig {
    pub binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    pub log_config: LogConfig,
    pub network_mode: String,
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    pub restart_policy: RestartPolicy,
    pub auto_remove: bool,
    pub volume_driver: String,
    pub volumes_from: Option<Vec<String>>,
    pub console_size: [u16; 2],
    pub cap_add: Option<Vec<String>>,
    pub cap_drop: Option<Vec<String>>,
    pub cgroupns_mode: String,
    pub dns: Vec<String>,
    pub dns_options: Vec<String>,
    pub dns_search: Vec<String>,
    pub extra_hosts: Option<Vec<String>>,
    pub group_add: Option<Vec<String>>,
    pub ipc_mode: String,
    pub cgroup: String,
    pub links: Option<Vec<String>>,
    pub oom_score_adj: i64,
    pub pid_mode: String,
    pub privileged: bool,
    pub publish_all_ports: bool,
    pub readonly_rootfs: bool,
    pub security_opt: Option<Vec<String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    #[serde(rename = "UTSMode")]
    pub uts_mode: String,
    pub userns_mode: String,
    /// Podman's key: the maps of the container's own user namespace, or of the one that it joins.
    #[serde(rename = "IDMappings", skip_serializing_if = "Option::is_none", with = "crate::ids::shown")]
    pub id_mappings: Option<crate::ids::Maps>,
    pub shm_size: i64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    pub runtime: String,
    pub isolation: String,
    pub cpu_shares: i64,
    pub memory: i64,
    pub nano_cpus: i64,
    pub cgroup_parent: String,
    pub blkio_weight: u16,
    pub blkio_weight_device: Vec<DeviceLimit>,
    pub blkio_device_read_bps: Vec<DeviceLimit>,
    pub blkio_device_write_bps: Vec<DeviceLimit>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    pub blkio_device_read_iops: Vec<DeviceLimit>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    pub blkio_device_write_iops: Vec<DeviceLimit>,
    pub cpu_period: i64,
    pub cpu_quota: i64,
    pub cpu_realtime_period: i64,
    pub cpu_realtime_runtime: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub devices: Vec<DeviceMapping>,
    pub device_cgroup_rules: Option<Vec<String>>,
    pub device_requests: Option<Value>,
    pub memory_reservation: i64,
    pub memory_swap: i64,
    pub memory_swappiness: Option<i64>,
    pub oom_kill_disable: bool,
    pub pids_limit: Option<i64>,
    pub ulimits: Vec<Ulimit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Value>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
}

/// A log driver and its options.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LogConfig {
    /// `json-file`, `none`, ….
    #[serde(rename = "Type")]
    pub driver: String,
    /// `max-size`, `max-file`, `tag`, ….
    pub config: BTreeMap<String, String>,
}

/// One host end of a published port, as docker spells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct PortBinding {
    pub host_ip: String,
    pub host_port: String,
}

/// When the supervisor starts the container again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`, `on-failure`, `always`, `unless-stopped`.
    pub name: String,
    /// For `on-failure`: 0 is no limit.
    pub maximum_retry_count: u32,
}

/// A limit on one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct DeviceLimit {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
}

/// A device node given to the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct DeviceMapping {
    pub path_on_host: String,
    pub path_in_container: String,
    pub cgroup_permissions: String,
}

/// A resource limit of the first process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct Ulimit {
    pub name: String,
    pub hard: i64,
    pub soft: i64,
}

/// One mount of `inspect`'s `Mounts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// The volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    pub source: String,
    pub destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    pub mode: String,
    #[serde(rename = "RW")]
    pub rw: bool,
    pub propagation: String,
    /// What becomes of mounts below a bind's source: `disabled` leaves them out, `writable` does not make them
    /// read-only; empty for docker's default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub recursive: String,
    /// A volume without a name of the user's: `rm -v` and `--rm` remove it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// The place inside the volume that is mounted, where it is not the whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// The option `idmap` or `idmap=…`: its files belong to others than on disk.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub idmap: String,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum State {
    #[default]
    Created,
    /// Made ready up to its program (`shim init`): the namespaces stand, nothing runs in them.
    Initialized,
    Running,
    Paused,
    /// Waiting for its next start by the restart policy.
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl State {
    /// The word docker uses.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Initialized => "initialized",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether a supervisor has work with it (ready, running, paused, or waiting to start again).
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Initialized | Self::Running | Self::Paused | Self::Restarting)
    }
}

/// `status.json`. While a supervisor lives it stands in `STATE/shim/<id>/` (a tmpfs: no disk is waited for, and a
/// reboot takes it away, as it should); what must last is also kept in `STORE/containers/<id>/`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Format of this document: 1.
    pub version: u32,
    /// The state as last written; who reads it checks `owner` first.
    pub state: State,
    /// The container's first process.
    pub process: Option<Process>,
    /// Who looks after the container now: its supervisor, or the command that is starting it. Where that process
    /// has gone, whatever it left is cleaned by the next command that looks.
    pub owner: Option<Process>,
    /// RFC 3339; empty before the first start.
    pub started_at: String,
    /// RFC 3339; empty before the first end.
    pub finished_at: String,
    /// As a shell sees it: 128+n for a signal.
    pub exit_code: i32,
    /// Whether the kernel killed one of its processes for memory.
    pub oom_killed: bool,
    /// Why the last start failed.
    pub error: String,
    /// Restarts by policy since the last start by hand; one that is waited for is counted, too.
    pub restart_count: u32,
    /// Stopped by the user: `unless-stopped` is not started again at boot.
    pub manually_stopped: bool,
    /// Health, where the container has a check.
    pub health: Option<Health>,
    /// What `netctl up` answered.
    pub network: Option<network::Status>,
}

/// The state of a container's health check.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct Health {
    /// `starting`, `healthy`, `unhealthy`.
    pub status: String,
    pub failing_streak: u32,
    /// The last results.
    pub log: Vec<HealthResult>,
}

/// One run of a health check.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct HealthResult {
    pub start: String,
    pub end: String,
    pub exit_code: i32,
    /// Its beginning.
    pub output: String,
}

/// Now, as these files spell it.
#[must_use]
pub fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}
