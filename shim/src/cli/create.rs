//! The flags of `run` and `create`: docker's list.

use std::path::PathBuf;

use clap::Args;

use super::podman::PodmanFlags;

/// What a new container is like.
#[derive(Debug, Args)]
#[command(next_help_heading = "Container")]
#[allow(clippy::struct_excessive_bools)] // one per flag
pub struct CreateFlags {
    /// Name the container (else a name is made up)
    #[arg(long, default_value = "", hide_default_value = true)]
    pub name: String,
    /// Keep stdin open even if not attached
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Program to run instead of the image's ENTRYPOINT
    #[arg(long)]
    pub entrypoint: Option<String>,
    /// Set an environment variable (NAME takes its value from here)
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User to run as
    #[arg(short, long, value_name = "NAME|UID[:GROUP|GID]")]
    pub user: Option<String>,
    /// Add a group
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// NIS domain name inside
    #[arg(long, value_name = "NAME")]
    pub domainname: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// Add an annotation to config.json
    #[arg(long, value_name = "KEY=VALUE")]
    pub annotation: Vec<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Attach to stdin, stdout or stderr only
    #[arg(short, long, value_name = "STREAM")]
    pub attach: Vec<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub init: Option<bool>,
    /// When to pull the image: missing, always or never
    #[arg(long, default_value = "missing", value_parser = ["missing", "always", "never"])]
    pub pull: String,
    /// Pull without progress
    #[arg(short, long)]
    pub quiet: bool,
    /// Platform of the image, os/arch[/variant]
    #[arg(long)]
    pub platform: Option<String>,
    /// OCI runtime to use: a path, a name in PATH or in daemon.json (also BULKHEAD_RUNTIME)
    #[arg(long, value_name = "PROGRAM")]
    pub runtime: Option<String>,
    /// Its arguments before the verb: daemon.json's.
    #[arg(skip)]
    pub runtime_args: Vec<String>,
    /// Restart policy: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub restart: String,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and SIGKILL
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub stop_timeout: Option<i64>,
    /// Log driver
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Log driver option
    #[arg(long, value_name = "KEY=VALUE")]
    pub log_opt: Vec<String>,
    #[command(flatten)]
    pub health: HealthFlags,
    #[command(flatten)]
    pub storage: StorageFlags,
    #[command(flatten)]
    pub network: NetworkFlags,
    #[command(flatten)]
    pub security: SecurityFlags,
    #[command(flatten)]
    pub resources: ResourceFlags,
    #[command(flatten)]
    pub podman: PodmanFlags,
    #[command(flatten)]
    pub windows: WindowsFlags,
    /// The image, then the command to run in it and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND [ARG]...]")]
    pub image_and_command: Vec<String>,
}

/// Health check.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Health")]
pub struct HealthFlags {
    /// Command that tells whether the container is healthy
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between checks (30s)
    #[arg(long, value_name = "DURATION")]
    pub health_interval: Option<String>,
    /// Failures in a row that make it unhealthy (3)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub health_retries: Option<i64>,
    /// Time a check may take (30s)
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// Time after the start in which failures do not count (0s)
    #[arg(long, value_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// Time between checks during the start period (5s)
    #[arg(long, value_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// What to do when it becomes unhealthy
    #[arg(long, value_name = "ACTION", value_parser = ["none", "kill", "restart", "stop"])]
    pub health_on_failure: Option<String>,
    /// Check that has to pass before the health check begins; until then failures do not count
    #[arg(long, value_name = "COMMAND")]
    pub health_startup_cmd: Option<String>,
    /// Time between startup checks (30s)
    #[arg(long, value_name = "DURATION")]
    pub health_startup_interval: Option<String>,
    /// Failures of the startup check that restart the container (0: none does)
    #[arg(long, value_name = "N")]
    pub health_startup_retries: Option<u32>,
    /// Times the startup check has to pass (0: once)
    #[arg(long, value_name = "N")]
    pub health_startup_success: Option<u32>,
    /// Time a startup check may take (30s)
    #[arg(long, value_name = "DURATION")]
    pub health_startup_timeout: Option<String>,
    /// Where results go besides `inspect`: local, events_logger, or a directory for ID-healthcheck.log
    #[arg(long, value_name = "DESTINATION")]
    pub health_log_destination: Option<String>,
    /// Results to keep (5; 0: all)
    #[arg(long, value_name = "N")]
    pub health_max_log_count: Option<u32>,
    /// Bytes to keep of a check's output (4096; 0: all)
    #[arg(long, value_name = "BYTES")]
    pub health_max_log_size: Option<u32>,
    /// Ignore the image's health check
    #[arg(long)]
    pub no_healthcheck: bool,
}

/// Files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Files")]
#[allow(clippy::struct_excessive_bools)]
pub struct StorageFlags {
    /// Mount a volume or a host path: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long, value_name = "VOLUME")]
    pub volume: Vec<String>,
    /// Mount anything: type=bind|volume|tmpfs,src=…,dst=…[,readonly…]
    #[arg(long, value_name = "MOUNT")]
    pub mount: Vec<String>,
    /// Mount a tmpfs: TARGET[:OPTIONS]
    #[arg(long, value_name = "TARGET")]
    pub tmpfs: Vec<String>,
    /// Mount the volumes of another container: CONTAINER[:ro|rw]
    #[arg(long, value_name = "CONTAINER")]
    pub volumes_from: Vec<String>,
    /// Volume driver for -v (only `local` exists)
    #[arg(long, value_name = "DRIVER")]
    pub volume_driver: Option<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Size of /dev/shm (64m)
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<String>,
    /// Storage driver option
    #[arg(long, value_name = "KEY=VALUE")]
    pub storage_opt: Vec<String>,
    /// Give a host device: HOST[:CONTAINER[:rwm]]
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,
    /// Add a rule to the device cgroup: `c 1:3 rwm`
    #[arg(long, value_name = "RULE")]
    pub device_cgroup_rule: Vec<String>,
    /// GPUs (not supported)
    #[arg(long, value_name = "GPUS")]
    pub gpus: Option<String>,
    /// Docker's API socket (not supported: there is no daemon)
    #[arg(long)]
    pub use_api_socket: bool,
}

/// Network.
#[derive(Debug, Args)]
#[command(next_help_heading = "Network")]
pub struct NetworkFlags {
    /// Network to join: NAME, host, none, container:ID (repeatable; NAME may carry ,ip=…,alias=…)
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Further name on the network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub network_alias: Vec<String>,
    /// Publish a port: [[IP:]HOST:]CONTAINER[/PROTOCOL]
    #[arg(short, long, value_name = "PORT")]
    pub publish: Vec<String>,
    /// Publish every exposed port on a free port of the host
    #[arg(short = 'P', long)]
    pub publish_all: bool,
    /// Expose a port
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Option<std::net::Ipv4Addr>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub ip6: Option<std::net::Ipv6Addr>,
    /// MAC address
    #[arg(long, value_name = "ADDRESS")]
    pub mac_address: Option<String>,
    /// Link-local addresses
    #[arg(long, value_name = "ADDRESS")]
    pub link_local_ip: Vec<String>,
    /// Another container's name in the hosts file: CONTAINER[:ALIAS]
    #[arg(long, value_name = "CONTAINER")]
    pub link: Vec<String>,
    /// Line for the hosts file: NAME:ADDRESS
    #[arg(long, value_name = "HOST")]
    pub add_host: Vec<String>,
    /// DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<std::net::IpAddr>,
    /// DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// DNS option
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
}

/// Isolation.
#[derive(Debug, Args)]
#[command(next_help_heading = "Isolation")]
#[allow(clippy::struct_excessive_bools)]
pub struct SecurityFlags {
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Drop a capability
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices, no filters
    #[arg(long)]
    pub privileged: bool,
    /// seccomp=FILE|unconfined, apparmor=PROFILE, no-new-privileges, systempaths=unconfined, label=…
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// PID namespace: host or container:ID
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// IPC namespace: none, private, shareable, host or container:ID
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// User namespace: host, auto[:size=N,uidmapping=MAP,gidmapping=MAP], private, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Users of a user namespace of its own: CONTAINER:HOST[:SIZE]
    #[arg(long, value_name = "MAP")]
    pub uidmap: Vec<String>,
    /// Its groups [default: as the users]
    #[arg(long, value_name = "MAP")]
    pub gidmap: Vec<String>,
    /// Its users are those that /etc/subuid gives to this one
    #[arg(long, value_name = "NAME")]
    pub subuidname: Option<String>,
    /// Its groups are those that /etc/subgid gives to this user
    #[arg(long, value_name = "NAME")]
    pub subgidname: Option<String>,
    /// Cgroup namespace: host or private
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// Parent cgroup
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// Kernel parameter
    #[arg(long, value_name = "NAME=VALUE")]
    pub sysctl: Vec<String>,
    /// Limit: NAME=SOFT[:HARD]
    #[arg(long, value_name = "LIMIT")]
    pub ulimit: Vec<String>,
    /// Adjustment of the OOM score (-1000 to 1000)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i64>,
}

/// Resources; shared with `update`.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceFlags {
    /// Memory limit
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Soft memory limit
    #[arg(long, value_name = "SIZE")]
    pub memory_reservation: Option<String>,
    /// Memory plus swap; -1 for unlimited swap
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Swappiness, 0 to 100
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub memory_swappiness: Option<i64>,
    /// Kernel memory limit (ignored by today's kernels)
    #[arg(long, value_name = "SIZE", hide = true)]
    pub kernel_memory: Option<String>,
    /// Do not kill on out of memory
    #[arg(long)]
    pub oom_kill_disable: bool,
    /// Number of CPUs
    #[arg(long, value_name = "N")]
    pub cpus: Option<String>,
    /// CPU shares (relative weight)
    #[arg(short = 'c', long, value_name = "N")]
    pub cpu_shares: Option<i64>,
    /// CFS period in microseconds
    #[arg(long, value_name = "N")]
    pub cpu_period: Option<i64>,
    /// CFS quota in microseconds
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// Real-time period in microseconds
    #[arg(long, value_name = "N")]
    pub cpu_rt_period: Option<i64>,
    /// Real-time runtime in microseconds
    #[arg(long, value_name = "N")]
    pub cpu_rt_runtime: Option<i64>,
    /// CPUs to run on (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Number of processes; -1 for unlimited
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// Block IO weight, 10 to 1000
    #[arg(long, value_name = "N")]
    pub blkio_weight: Option<u16>,
    /// Block IO weight of a device: PATH:WEIGHT
    #[arg(long, value_name = "DEVICE")]
    pub blkio_weight_device: Vec<String>,
    /// Read rate of a device: PATH:RATE
    #[arg(long, value_name = "DEVICE")]
    pub device_read_bps: Vec<String>,
    /// Write rate of a device: PATH:RATE
    #[arg(long, value_name = "DEVICE")]
    pub device_write_bps: Vec<String>,
    /// Read operations of a device: PATH:RATE
    #[arg(long, value_name = "DEVICE")]
    pub device_read_iops: Vec<String>,
    /// Write operations of a device: PATH:RATE
    #[arg(long, value_name = "DEVICE")]
    pub device_write_iops: Vec<String>,
}

/// Flags of Docker on Windows, refused by name.
#[derive(Debug, Args)]
pub struct WindowsFlags {
    #[arg(long, hide = true)]
    pub cpu_count: Option<String>,
    #[arg(long, hide = true)]
    pub cpu_percent: Option<String>,
    #[arg(long, hide = true)]
    pub io_maxbandwidth: Option<String>,
    #[arg(long, hide = true)]
    pub io_maxiops: Option<String>,
    #[arg(long, hide = true)]
    pub isolation: Option<String>,
}
