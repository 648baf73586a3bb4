//! The flags of every verb but `create`'s own.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::create::{CreateFlags, HealthFlags, ResourceFlags};
use super::selection::Selection;

#[derive(Debug, Args)]
pub struct RunFlags {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that detach from the container
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_name = "KEYS")]
    pub detach_keys: String,
    /// Pass signals on to the container
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    #[command(flatten)]
    pub create: CreateFlags,
}

#[derive(Debug, Args)]
pub struct StartFlags {
    /// Attach to stdout and stderr, and pass signals on
    #[arg(short, long)]
    pub attach: bool,
    /// Attach to stdin too
    #[arg(short, long)]
    pub interactive: bool,
    /// Keys that detach from the container
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_name = "KEYS")]
    pub detach_keys: String,
    /// Go on from this checkpoint (see `shim checkpoint`)
    #[arg(long, value_name = "CHECKPOINT")]
    pub checkpoint: Option<String>,
    /// Where the checkpoint is, if not with the container
    #[arg(long, value_name = "DIR", requires = "checkpoint")]
    pub checkpoint_dir: Option<PathBuf>,
    #[command(flatten)]
    pub which: Selection,
}

#[derive(Debug, Args)]
pub struct StopFlags {
    /// Signal to send first
    #[arg(short, long)]
    pub signal: Option<String>,
    /// Seconds to wait before SIGKILL; -1 waits for ever
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true)]
    pub time: Option<i64>,
    /// Do not mind what does not exist
    #[arg(short, long)]
    pub ignore: bool,
    /// With `restart --all`: only those that run
    #[arg(long)]
    pub running: bool,
    #[command(flatten)]
    pub which: Selection,
}

#[derive(Debug, Args)]
pub struct KillFlags {
    /// Signal to send
    #[arg(short, long, default_value = "KILL")]
    pub signal: String,
    #[command(flatten)]
    pub which: Selection,
}

#[derive(Debug, Default, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct RmFlags {
    /// Kill what runs; do not mind what does not exist
    #[arg(short, long)]
    pub force: bool,
    /// Remove the anonymous volumes too
    #[arg(short, long)]
    pub volumes: bool,
    /// Remove a link (not supported: a link goes with its container)
    #[arg(short, long, hide = true)]
    pub link: bool,
    /// Do not mind what does not exist
    #[arg(short, long)]
    pub ignore: bool,
    /// With --force: seconds between the stop signal and SIGKILL (else SIGKILL at once)
    #[arg(short, long, value_name = "SECONDS", requires = "force", allow_negative_numbers = true)]
    pub time: Option<i64>,
    #[command(flatten)]
    pub which: Selection,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct PsFlags {
    /// Show stopped ones too
    #[arg(short, long)]
    pub all: bool,
    /// Only ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Only those that match KEY=VALUE: id name label exited status ancestor before since volume network publish expose health
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// `table`, `json`, a template, or `table TEMPLATE`
    #[arg(long)]
    pub format: Option<String>,
    /// Do not shorten
    #[arg(long)]
    pub no_trunc: bool,
    /// Show the last N made, in any state
    #[arg(
        short = 'n',
        long,
        value_name = "N",
        allow_negative_numbers = true,
        default_value = "-1",
        hide_default_value = true
    )]
    pub last: i64,
    /// Show the last one made
    #[arg(short, long)]
    pub latest: bool,
    /// Show sizes
    #[arg(short, long)]
    pub size: bool,
    /// Order of the rows
    #[arg(long, value_name = "KEY", value_parser = ["command", "created", "id", "image", "names", "runningfor", "size", "status"])]
    pub sort: Option<String>,
    /// No line of headings
    #[arg(long)]
    pub noheading: bool,
}

#[derive(Debug, Args)]
pub struct LogsFlags {
    /// Show the attributes the log driver was asked to keep
    #[arg(long)]
    pub details: bool,
    /// Keep showing what comes
    #[arg(short, long)]
    pub follow: bool,
    /// Start at this time (2026-01-02T15:04:05Z) or so long ago (42m)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// End at this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only the last N lines
    #[arg(short = 'n', long, default_value = "all", value_name = "N")]
    pub tail: String,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    pub container: String,
}

#[derive(Debug, Args)]
pub struct AttachFlags {
    /// Keys that detach from the container
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_name = "KEYS")]
    pub detach_keys: String,
    /// Do not send stdin
    #[arg(long)]
    pub no_stdin: bool,
    /// Pass signals on to the container
    #[arg(long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    pub container: String,
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)]
pub struct ExecFlags {
    /// Run in the background
    #[arg(short, long)]
    pub detach: bool,
    /// Keys that detach from the command
    #[arg(long, default_value = "ctrl-p,ctrl-q", value_name = "KEYS")]
    pub detach_keys: String,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Pass stdin
    #[arg(short, long)]
    pub interactive: bool,
    /// All capabilities
    #[arg(long)]
    pub privileged: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User to run as
    #[arg(short, long, value_name = "NAME|UID[:GROUP|GID]")]
    pub user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The container, then the command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_name = "CONTAINER COMMAND [ARG]...")]
    pub container_and_command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Names {
    #[command(flatten)]
    pub which: Selection,
}

#[derive(Debug, Args)]
pub struct WaitFlags {
    /// Wait until it is so, any of several: stopped, running, paused, created, initialized, exited, removed, healthy, unhealthy
    #[arg(long, value_name = "CONDITION", value_delimiter = ',', value_parser = ["stopped", "not-running", "running", "paused", "created", "initialized", "exited", "removed", "healthy", "unhealthy"])]
    pub condition: Vec<String>,
    /// Time between looks for a condition
    #[arg(short, long, value_name = "DURATION", default_value = "250ms")]
    pub interval: String,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct OneName {
    pub container: String,
}

#[derive(Debug, Args)]
pub struct InspectFlags {
    /// `json` or a template
    #[arg(short, long)]
    pub format: Option<String>,
    /// Add the sizes
    #[arg(short, long)]
    pub size: bool,
    /// Only this type of object (`container`: imgtool, netctl and `shim volume` inspect theirs)
    #[arg(long, value_name = "TYPE", default_value = "container", hide_default_value = true)]
    pub r#type: String,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ExportFlags {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    pub container: String,
}

#[derive(Debug, Args)]
pub struct CommitFlags {
    /// Author
    #[arg(short, long)]
    pub author: Option<String>,
    /// Dockerfile instruction to apply
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Commit message
    #[arg(short, long)]
    pub message: Option<String>,
    /// Freeze the container meanwhile
    #[arg(short, long, default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub pause: bool,
    pub container: String,
    /// Name of the new image
    pub reference: Option<String>,
}

#[derive(Debug, Args)]
pub struct PortFlags {
    pub container: String,
    /// PORT[/PROTOCOL]
    pub port: Option<String>,
}

#[derive(Debug, Args)]
pub struct TopFlags {
    pub container: String,
    /// Options for ps
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PS OPTIONS")]
    pub options: Vec<String>,
}

#[derive(Debug, Args)]
pub struct RenameFlags {
    pub container: String,
    pub name: String,
}

#[derive(Debug, Args)]
pub struct CpFlags {
    /// Keep owners
    #[arg(short, long)]
    pub archive: bool,
    /// Follow a symbolic link in SOURCE
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// No words about progress (there are none)
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:PATH, a path here, or - for a tar on stdin
    #[arg(allow_hyphen_values = true)]
    pub source: String,
    /// CONTAINER:PATH, a path here, or - for a tar on stdout
    #[arg(allow_hyphen_values = true)]
    pub target: String,
}

#[derive(Debug, Args)]
pub struct StatsFlags {
    /// Show stopped ones too
    #[arg(short, long)]
    pub all: bool,
    /// `table`, `json` or a template
    #[arg(long)]
    pub format: Option<String>,
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u64).range(1..))]
    pub interval: u64,
    /// Do not clear the screen between two looks
    #[arg(long)]
    pub no_reset: bool,
    /// Show once
    #[arg(long)]
    pub no_stream: bool,
    /// Do not shorten
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct UpdateFlags {
    #[command(flatten)]
    pub resources: ResourceFlags,
    /// Restart policy
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Set an environment variable, for the next start
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Take an environment variable away, for the next start
    #[arg(long, value_name = "NAME")]
    pub unsetenv: Vec<String>,
    #[command(flatten)]
    pub health: HealthFlags,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct PruneFlags {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// label=…, label!=…, until=…
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

#[derive(Debug, Args)]
pub struct EventsFlags {
    /// Only events that match KEY=VALUE: container event image label type volume
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// `json` or a template
    #[arg(long)]
    pub format: Option<String>,
    /// Show past events since this time
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Show events until this time and end
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

#[derive(Debug, Args)]
pub struct FormatOnly {
    /// `json` or a template
    #[arg(short, long)]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub struct BootFlags {
    /// The other way round, before a shutdown: end what runs, to be started again at the next boot
    #[arg(long)]
    pub stop: bool,
}

/// `shim healthcheck …`
#[derive(Debug, Subcommand)]
pub enum HealthcheckVerb {
    /// Run it once; exit 0 if healthy
    Run(OneName),
}

/// `shim volume …`
#[derive(Debug, Subcommand)]
pub enum VolumeVerb {
    /// Make a volume
    Create(VolumeCreateFlags),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(VolumeLsFlags),
    /// Show volumes
    Inspect(VolumeInspectFlags),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(VolumeRmFlags),
    /// Remove volumes that no container uses
    Prune(VolumePruneFlags),
    /// Whether there is such a volume: exit code 0 or 1
    Exists(super::ExistsFlags),
    /// Write a volume's files as a tar
    Export(super::VolumeExportFlags),
    /// Unpack a tar into a volume
    Import(super::VolumeImportFlags),
}

#[derive(Debug, Args)]
pub struct VolumeCreateFlags {
    /// Driver (only `local` exists)
    #[arg(short, long, default_value = "local")]
    pub driver: String,
    /// Set a label
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub label: Vec<String>,
    /// type=…, device=…, o=…: what to mount as the volume
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct VolumeLsFlags {
    /// Only those that match: name dangling driver label
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// `table`, `json` or a template
    #[arg(long)]
    pub format: Option<String>,
    /// Only names
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct VolumeInspectFlags {
    /// `json` or a template
    #[arg(short, long)]
    pub format: Option<String>,
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

#[derive(Debug, Args)]
pub struct VolumeRmFlags {
    /// Do not mind what does not exist
    #[arg(short, long)]
    pub force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    pub volumes: Vec<String>,
}

#[derive(Debug, Args)]
pub struct VolumePruneFlags {
    /// Named ones too
    #[arg(short, long)]
    pub all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// label=…, label!=…
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}
