//! Flags of the verbs that podman has and docker has not.

use clap::Args;

use super::create::ResourceFlags;
use super::selection::Selection;

#[derive(Debug, Args)]
pub struct ExistsFlags {
    /// A name, an id, or the beginning of an id
    #[arg(value_name = "NAME")]
    pub name: String,
}

#[derive(Debug, Args)]
pub struct MountFlags {
    /// All containers
    #[arg(short, long, conflicts_with_all = ["containers", "latest"])]
    pub all: bool,
    /// The container that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,
    /// `json`, or a template of .ID, .Names and .Path
    #[arg(long)]
    pub format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct UnmountFlags {
    /// Also what was mounted several times
    #[arg(short, long)]
    pub force: bool,
    #[command(flatten)]
    pub which: Selection,
}

#[derive(Debug, Args)]
pub struct CleanupFlags {
    /// Remove the containers then
    #[arg(long)]
    pub rm: bool,
    /// Only those that have ended; that others have not is no error
    #[arg(long)]
    pub stopped_only: bool,
    #[command(flatten)]
    pub which: Selection,
}

#[derive(Debug, Args)]
pub struct CloneFlags {
    /// Remove the original
    #[arg(long)]
    pub destroy: bool,
    /// With --destroy: also where it runs
    #[arg(short, long, requires = "destroy")]
    pub force: bool,
    /// Start the new one
    #[arg(long)]
    pub run: bool,
    /// Name of the new one (else that of the original with `-clone`)
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    #[command(flatten)]
    pub resources: ResourceFlags,
    pub container: String,
    /// Name of the new one
    #[arg(value_name = "NAME", conflicts_with = "name")]
    pub new_name: Option<String>,
    /// Another image than the original's
    #[arg(value_name = "IMAGE")]
    pub image: Option<String>,
}

#[derive(Debug, Args)]
pub struct VolumeExportFlags {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<std::path::PathBuf>,
    pub volume: String,
}

#[derive(Debug, Args)]
pub struct VolumeImportFlags {
    pub volume: String,
    /// A tar, or - for stdin; gzip, bzip2, xz and zstd are seen
    #[arg(allow_hyphen_values = true, value_name = "FILE")]
    pub source: String,
}
