//! Flags of `checkpoint` and `restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `shim checkpoint CONTAINER…`, `shim checkpoint create|ls|rm …`
#[derive(Debug, Args)]
pub struct CheckpointCommand {
    #[command(subcommand)]
    pub verb: Option<CheckpointVerb>,
    #[command(flatten)]
    pub dump: CheckpointDump,
    #[command(flatten)]
    pub export: ExportedCheckpoint,
    /// Dump the memory alone and let the container run on: a later checkpoint --with-previous has less to do
    #[arg(short = 'P', long)]
    pub pre_checkpoint: bool,
    /// Dump only the memory that changed since --pre-checkpoint
    #[arg(long)]
    pub with_previous: bool,
    /// Keep CRIU's log and statistics
    #[arg(short, long)]
    pub keep: bool,
    /// Show how long it took, as JSON
    #[arg(long)]
    pub print_stats: bool,
    /// All running containers
    #[arg(short, long, conflicts_with = "containers")]
    pub all: bool,
    /// The container that was made last
    #[arg(short, long, conflicts_with_all = ["containers", "all"])]
    pub latest: bool,
    /// An image of the checkpoint (not supported: --export)
    #[arg(long, value_name = "IMAGE", hide = true)]
    pub create_image: Option<String>,
    #[arg(required_unless_present_any = ["all", "latest"], value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

/// Podman's archive of a checkpoint.
#[derive(Debug, Args)]
pub struct ExportedCheckpoint {
    /// Also write an archive that can be restored on another machine
    #[arg(short, long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Compression of the archive
    #[arg(short, long, value_enum, default_value = "zstd", requires = "export")]
    pub compress: Compress,
    /// Without the changes of the container's files
    #[arg(long, requires = "export")]
    pub ignore_rootfs: bool,
    /// Without its volumes
    #[arg(long, requires = "export")]
    pub ignore_volumes: bool,
}

/// `--compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Compress {
    None,
    Gzip,
    Zstd,
}

impl Compress {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// As docker has them: checkpoints with names.
#[derive(Debug, Subcommand)]
pub enum CheckpointVerb {
    /// Make a checkpoint
    Create(CheckpointCreateFlags),
    /// List a container's checkpoints
    #[command(visible_alias = "list")]
    Ls(CheckpointPlace),
    /// Remove a checkpoint
    #[command(visible_alias = "remove")]
    Rm(CheckpointRmFlags),
}

/// How a checkpoint is made.
#[derive(Debug, Args)]
pub struct CheckpointDump {
    /// Let the container run on
    #[arg(short = 'R', long)]
    pub leave_running: bool,
    /// Also open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// Also file locks
    #[arg(long)]
    pub file_locks: bool,
}

#[derive(Debug, Args)]
pub struct CheckpointPlace {
    /// Keep it there instead of with the container
    #[arg(long, value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
    pub container: String,
}

#[derive(Debug, Args)]
pub struct CheckpointCreateFlags {
    #[command(flatten)]
    pub dump: CheckpointDump,
    #[command(flatten)]
    pub place: CheckpointPlace,
    pub checkpoint: String,
}

#[derive(Debug, Args)]
pub struct CheckpointRmFlags {
    #[command(flatten)]
    pub place: CheckpointPlace,
    pub checkpoint: String,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct RestoreFlags {
    /// Keep the checkpoint: it can be restored again
    #[arg(short, long)]
    pub keep: bool,
    /// Also the open TCP connections of an archive
    #[arg(long)]
    pub tcp_established: bool,
    /// Also the file locks of an archive
    #[arg(long)]
    pub file_locks: bool,
    /// Show how long it took, as JSON
    #[arg(long)]
    pub print_stats: bool,
    /// All containers that have a checkpoint
    #[arg(short, long, conflicts_with_all = ["containers", "import"])]
    pub all: bool,
    /// The container that was made last
    #[arg(short, long, conflicts_with_all = ["containers", "import", "all"])]
    pub latest: bool,
    #[command(flatten)]
    pub import: ImportedCheckpoint,
    #[arg(required_unless_present_any = ["all", "latest", "import"], value_name = "CONTAINER", conflicts_with = "import")]
    pub containers: Vec<String>,
}

/// A container from an archive.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct ImportedCheckpoint {
    /// Make the container of this archive (shim checkpoint --export) and let it go on
    #[arg(short, long, value_name = "FILE")]
    pub import: Option<PathBuf>,
    /// The archive of --pre-checkpoint that this one builds on
    #[arg(long, value_name = "FILE", requires = "import")]
    pub import_previous: Option<PathBuf>,
    /// Another name, with another id and other addresses
    #[arg(short, long, requires = "import")]
    pub name: Option<String>,
    /// Files as in the image
    #[arg(long, requires = "import")]
    pub ignore_rootfs: bool,
    /// Volumes as they are here
    #[arg(long, requires = "import")]
    pub ignore_volumes: bool,
    /// Not the address that --ip asked for
    #[arg(long, requires = "import")]
    pub ignore_static_ip: bool,
    /// Not the address that --mac-address asked for
    #[arg(long, requires = "import")]
    pub ignore_static_mac: bool,
    /// Into a pod (not supported: there are none)
    #[arg(long, value_name = "POD", hide = true)]
    pub pod: Option<String>,
}
