//! Flags of `checkpoint` and `restore`, as runc and crun have them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where the images of the processes are.
#[derive(Debug, Args)]
pub struct Images {
    /// Directory of the images [default: ./checkpoint]
    #[arg(long, value_name = "DIR")]
    pub image_path: Option<PathBuf>,
    /// Directory of CRIU's log and work files [default: the images']
    #[arg(long, value_name = "DIR")]
    pub work_path: Option<PathBuf>,
}

/// What both ways share. Where the dump needed one of these, the restore needs it again.
#[derive(Debug, Args)]
pub struct Shared {
    /// Also open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Also Unix sockets whose other end is outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// Also a session whose terminal is outside
    #[arg(long)]
    pub shell_job: bool,
    /// Also file locks
    #[arg(long)]
    pub file_locks: bool,
    /// How CRIU treats cgroups
    #[arg(long, value_name = "MODE")]
    pub manage_cgroups_mode: Option<CgroupMode>,
    /// How the network is kept still meanwhile
    #[arg(long, value_name = "METHOD")]
    pub network_lock: Option<NetworkLock>,
    /// Make this namespace without restoring what is in it (`network`, which always is)
    #[arg(long, value_name = "NAMESPACE")]
    pub empty_ns: Vec<String>,
    /// Drop memory images that a later one repeats
    #[arg(long)]
    pub auto_dedup: bool,
    /// Send memory only when it is touched (userfaultfd)
    #[arg(long)]
    pub lazy_pages: bool,
}

/// `--manage-cgroups-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CgroupMode {
    /// Restore the properties of cgroups that do not exist
    Soft,
    /// Restore all properties
    Full,
    /// Restore all, and fail where they exist
    Strict,
    /// Leave cgroups alone
    Ignore,
}

/// `--network-lock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NetworkLock {
    /// By iptables
    Iptables,
    /// By nftables
    Nftables,
    /// Not at all
    Skip,
}

/// `checkpoint`.
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// Images.
    #[command(flatten)]
    pub images: Images,
    /// Shared flags.
    #[command(flatten)]
    pub shared: Shared,
    /// Images of an earlier --pre-dump, relative to the new ones
    #[arg(long, value_name = "DIR")]
    pub parent_path: Option<PathBuf>,
    /// Let the container run on
    #[arg(long)]
    pub leave_running: bool,
    /// Dump the memory only, and let the container run on; a later checkpoint names it by --parent-path
    #[arg(long)]
    pub pre_dump: bool,
    /// Leave out TCP connections that are just being made
    #[arg(long)]
    pub tcp_skip_in_flight: bool,
    /// Link removed files back for the time of the dump
    #[arg(long)]
    pub link_remap: bool,
    /// Send the memory to this page server
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub page_server: Option<String>,
    /// Write a NUL here once --lazy-pages is ready to serve
    #[arg(long, value_name = "FD")]
    pub status_fd: Option<i32>,
    /// The container's id
    #[arg(value_name = "ID")]
    pub id: String,
}

/// `restore`.
#[derive(Debug, Args)]
pub struct Restore {
    /// Images.
    #[command(flatten)]
    pub images: Images,
    /// Shared flags.
    #[command(flatten)]
    pub shared: Shared,
    /// The bundle; `-` reads its path from the first line of stdin
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Read this file instead of the bundle's config.json
    #[arg(long, short = 'f', value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Unix socket that receives the terminal's master end
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the pid of the first process here
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Return once the processes run
    #[arg(long, short)]
    pub detach: bool,
    /// Keep the container's state after its program ended
    #[arg(long)]
    pub keep: bool,
    /// Do not adopt orphaned grandchildren
    #[arg(long)]
    pub no_subreaper: bool,
    /// For runc's callers: CRIU has a way of its own into the root file system
    #[arg(long, hide = true)]
    pub no_pivot: bool,
    /// Close TCP connections instead of restoring them
    #[arg(long)]
    pub tcp_close: bool,
    /// Another LSM profile than at the dump, as `apparmor:NAME`
    #[arg(long, value_name = "TYPE:NAME")]
    pub lsm_profile: Option<String>,
    /// Another SELinux label of the mounts
    #[arg(long, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,
    /// The id to give it
    #[arg(value_name = "ID")]
    pub id: String,
}
