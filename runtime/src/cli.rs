//! The command line: runc's flags and their help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod checkpoint;
mod quick;
mod spelling;

/// What `--version` prints after the program's name: runc's shape, which Docker and Podman read line by line.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// OCI container runtime with the command line of runc.
///
/// A container is made from a bundle: a directory with a config.json and a root file system. `create` prepares it,
/// `start` runs its program, `run` does both; `exec` adds a process; `delete` removes what is left.
#[derive(Debug, Parser)]
#[command(name = "runtime", version = VERSION, disable_help_subcommand = true, disable_version_flag = true, args_override_self = true)]
pub struct Cli {
    /// Flags before the verb.
    #[command(flatten)]
    pub global: Global,
    /// Print version
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    pub version: Option<bool>,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The command line of this process; help, versions and errors end it.
#[must_use]
pub fn parse() -> Cli {
    let words = sys::start::arguments;
    quick::parse(words()).unwrap_or_else(|| {
        let args = spelling::normal(<Cli as clap::CommandFactory>::command(), words());
        Cli::parse_from(args)
    })
}

/// Flags that come before the verb.
#[derive(Debug, Default, Args)]
pub struct Global {
    /// Directory of container state (a tmpfs) [default: /run/bulkhead/runtime]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Append messages to this file as well, or send them to `journald:IDENTIFIER` or `syslog:IDENTIFIER`
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Format of the --log file
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log more, as --log-level debug
    #[arg(long)]
    pub debug: bool,
    /// What is worth a message
    #[arg(long, value_name = "LEVEL", default_value = "warning")]
    pub log_level: LogLevel,
    /// Manage cgroups through systemd; cgroupsPath is then `slice:prefix:name`
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who makes cgroups: `cgroupfs`, `systemd` (as --systemd-cgroup), or nobody
    #[arg(long, value_name = "MANAGER")]
    pub cgroup_manager: Option<CgroupManager>,
    /// Of runc before 1.1: accepted, with a warning
    #[arg(long, value_name = "PATH", hide = true)]
    pub criu: Option<PathBuf>,
    /// Ignore cgroup permission errors: `auto` where we are not root, `true` or `false`
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub rootless: Rootless,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `time="…" level=error msg="…"`
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// `--log-level`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum LogLevel {
    /// What went wrong
    #[value(aliases = ["fatal", "panic"])]
    Error,
    /// And what the user should know
    #[value(alias = "warn")]
    #[default]
    Warning,
    /// And steps of interest
    Info,
    /// And all else
    #[value(alias = "trace")]
    Debug,
}

/// `--cgroup-manager`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CgroupManager {
    /// We ourselves, by the file system
    Cgroupfs,
    /// systemd, as a transient unit
    Systemd,
    /// The container stays in our cgroup; limits are refused
    Disabled,
}

/// `--rootless`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    /// Where the effective user is not root
    #[default]
    Auto,
    /// Always
    #[value(alias = "1")]
    True,
    /// Never
    #[value(alias = "0")]
    False,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a container; its program waits for `start`
    Create(Create),
    /// Start the program of a created container
    ///
    /// Returns once it runs. Where NOTIFY_SOCKET is set, as for a service of systemd of Type=notify, once the program has said
    /// READY=1 to the socket that it has of its own (sd_notify(3)).
    Start(Container),
    /// Create and start a container, wait for it and exit with its code
    ///
    /// Where NOTIFY_SOCKET is set, the program gets a socket of its own, and what it says of being ready is passed on.
    Run(Run),
    /// Run one more process in a container
    Exec(Exec),
    /// Print a container's state as JSON
    State(Container),
    /// List containers
    List(List),
    /// Change the mounts of a running container
    #[command(subcommand)]
    Mounts(Mounts),
    /// Send a signal to a container's first process
    Kill(Kill),
    /// Stop all processes of a container where they are
    Pause(Container),
    /// Let a paused container run on
    Resume(Container),
    /// Print a container's processes
    Ps(Ps),
    /// Print a container's statistics, and when it runs out of memory
    Events(Events),
    /// Change a container's limits
    Update(Update),
    /// Print what this runtime and this kernel can do, as JSON
    Features,
    /// Write a running container's processes into images, by CRIU
    Checkpoint(checkpoint::Checkpoint),
    /// Make a container of such images, its processes going on where they were
    Restore(checkpoint::Restore),
    /// Delete a container and all that belongs to it
    Delete(Delete),
    /// Write an example config.json
    Spec(Spec),
}

/// A verb that takes a container only.
#[derive(Debug, Args)]
pub struct Container {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// What `create` and `run` share.
#[derive(Debug, Default, Args)]
pub struct Create {
    /// The bundle; `-` reads its path from the first line of stdin
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Read this file instead of the bundle's config.json
    #[arg(long, short = 'f', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the first process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Write the pid of the first process here
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Move the root file system over / instead of pivot_root, as a root on a ramdisk needs
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Do not adopt orphaned grandchildren (`create` never does)
    #[arg(long)]
    pub no_subreaper: bool,
    /// Pass this many descriptors from 3 on (besides LISTEN_FDS)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// The id to give it
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `run`.
#[derive(Debug, Default, Args)]
pub struct Run {
    /// The flags of `create`.
    #[command(flatten)]
    pub create: Create,
    /// Return once the program runs
    #[arg(long, short)]
    pub detach: bool,
    /// Keep the container's state after its program ended
    #[arg(long)]
    pub keep: bool,
}

/// `exec`.
#[derive(Debug, Default, Args)]
#[command(trailing_var_arg = true)]
pub struct Exec {
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that receives a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Add an environment variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give it a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Numeric user and group
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Additional numeric group
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Read the process from this JSON file
    #[arg(long, short, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Return once the process runs
    #[arg(long, short)]
    pub detach: bool,
    /// Write the pid here
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    pub no_new_privs: bool,
    /// Add a capability to the bounding, effective and permitted set
    #[arg(long, short = 'c', value_name = "NAME")]
    pub cap: Vec<String>,
    /// Pass this many descriptors from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Run in this cgroup below the container's: PATH, or CONTROLLER[,…]:PATH on cgroup v1
    #[arg(long, value_name = "CGROUP")]
    pub cgroup: Vec<String>,
    /// Do not refuse a paused container; the process starts when it is resumed
    #[arg(long)]
    pub ignore_paused: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The program and its arguments
    #[arg(value_name = "COMMAND", allow_hyphen_values = true)]
    pub command: Vec<String>,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// table or json
    #[arg(long, short, default_value = "table")]
    pub format: ListFormat,
    /// Ids only
    #[arg(long, short)]
    pub quiet: bool,
}

/// `list --format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns
    Table,
    /// A JSON array
    Json,
}

/// `kill`.
#[derive(Debug, Default, Args)]
pub struct Kill {
    /// Signal every process of the container
    #[arg(long, short)]
    pub all: bool,
    /// The id is a regular expression: signal all containers that it matches
    #[arg(long, short)]
    pub regex: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Name or number
    #[arg(default_value = "SIGTERM")]
    pub signal: String,
}

/// `delete`.
#[derive(Debug, Default, Args)]
pub struct Delete {
    /// Kill it first; no error where it does not exist
    #[arg(long, short)]
    pub force: bool,
    /// The id is a regular expression: delete all containers that it matches
    #[arg(long, short)]
    pub regex: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `spec`.
#[derive(Debug, Args)]
pub struct Spec {
    /// The bundle to write config.json into
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Another name than config.json
    #[arg(long, short, value_name = "PATH")]
    pub file: Option<PathBuf>,
    /// For a user without privileges
    #[arg(long)]
    pub rootless: bool,
}

/// `mounts`.
#[derive(Debug, Subcommand)]
pub enum Mounts {
    /// Make mounts
    Add(MountsOf),
    /// Remove them, by their destinations
    Remove(MountsOf),
}

/// What `mounts add` and `mounts remove` take.
#[derive(Debug, Args)]
pub struct MountsOf {
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// A JSON file: `mounts` of a config.json, or the list alone
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// `ps`.
#[derive(Debug, Args)]
#[command(trailing_var_arg = true)]
pub struct Ps {
    /// table or json
    #[arg(long, short, default_value = "table")]
    pub format: ListFormat,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
    /// Arguments for ps [default: -ef]
    #[arg(value_name = "PS ARGUMENTS", allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Time between two statistics, as 5s, 500ms or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = interval)]
    pub interval: Duration,
    /// Print the statistics once
    #[arg(long)]
    pub stats: bool,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `update`.
#[derive(Debug, Args)]
pub struct Update {
    /// Read `linux.resources` as JSON from this file, - for stdin; the other limits are ignored then
    #[arg(long, short, value_name = "FILE", allow_hyphen_values = true)]
    pub resources: Option<PathBuf>,
    /// Weight for block devices, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Period of the processor limit, in microseconds
    #[arg(long, value_name = "USEC")]
    pub cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 for no limit
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Unused time that may be caught up, in microseconds
    #[arg(long, value_name = "USEC")]
    pub cpu_burst: Option<u64>,
    /// Share of the processors against other containers (1024 is usual)
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// Period of the real-time limit, in microseconds
    #[arg(long, value_name = "USEC")]
    pub cpu_rt_period: Option<u64>,
    /// Real-time processor time in each period, in microseconds
    #[arg(long, value_name = "USEC", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// 1: run only when nobody else wants to (SCHED_IDLE); 0: as usual
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    /// Processors to use, as 0-3,8
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory limit, as 64m or 1g; -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<String>,
    /// Memory that is taken last
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Accepted and ignored
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<String>,
    /// Accepted and ignored
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<String>,
    /// Most processes; -1 for no limit
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Level 3 cache allocation (Intel RDT), as `L3:0=f`
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Memory bandwidth allocation (Intel RDT), as `MB:0=20`
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// The time between two statistics.
fn interval(text: &str) -> Result<Duration, String> {
    let nanos = contracts::flag::duration::parse(text)?;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| "less than nothing".into())
}

#[cfg(test)]
mod tests {
    use super::{Duration, interval};

    #[test]
    fn an_interval_is_no_negative_time() {
        assert_eq!(interval("1m30s"), Ok(Duration::from_secs(90)));
        assert!(interval("-1s").is_err());
    }
}
