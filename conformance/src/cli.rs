//! Flags and help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Checks any OCI runtime against the specification from the outside, and times it against others.
///
/// Every case names the section of the OCI runtime specification it rests on. The runtime is used as its users use
/// it: by its command line. Needs root.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  conformance --runtime runc\n  conformance --runtime ./runtime --filter seccomp\n  \
        conformance bench --runtime ./runtime --peer runc --peer crun --runs 40\n\n\
        Exit codes: 0 all passed, 1 a case failed, 2 wrong usage."
)]
pub struct Cli {
    /// What else than checking.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The checks' own flags.
    #[command(flatten)]
    pub check: Check,
}

/// The other verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Time runtimes side by side, interleaved round by round, and print medians and ratios
    Bench(Bench),
}

/// Flags of a check.
#[derive(Debug, Args)]
pub struct Check {
    /// The runtime to check: a path, or a name looked up in PATH
    #[arg(long, value_name = "PATH")]
    pub runtime: Option<PathBuf>,
    /// A flag to give the runtime before each command, such as --systemd-cgroup (may be repeated)
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub runtime_flag: Vec<String>,
    /// Only cases with this text in their name or section (may be repeated: any of them)
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,
    /// How many cases at a time [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// List the cases with their sections instead of running them
    #[arg(long)]
    pub list: bool,
    /// Report in the Test Anything Protocol
    #[arg(long, conflicts_with = "json")]
    pub tap: bool,
    /// Report one JSON object per case
    #[arg(long)]
    pub json: bool,
    /// Run in a view of cgroups of its own
    #[arg(long, value_enum, default_value = "auto")]
    pub view: View,
    /// Where the bundles are made
    #[arg(long, value_name = "DIR", env = "TMPDIR", default_value = "/tmp", hide_env = true)]
    pub work: PathBuf,
}

/// How cgroups are shown to the runtimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum View {
    /// As this machine mounts them, but v1only where crun would refuse a hybrid
    Auto,
    /// As this machine mounts them
    Host,
    /// Version 1 hierarchies without the unified one
    V1only,
    /// The unified hierarchy alone, with the controllers that version 1 does not hold
    V2,
}

impl View {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Host => "host",
            Self::V1only => "v1only",
            Self::V2 => "v2",
        }
    }
}

/// Flags of `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// The runtime to measure
    #[arg(long, value_name = "PATH")]
    pub runtime: Option<PathBuf>,
    /// A directory with the tools to measure (its `runtime`, where --runtime does not say otherwise)
    #[arg(long, value_name = "DIR")]
    pub tools: Option<PathBuf>,
    /// A runtime to compare with (may be repeated) [default: runc and crun where installed]
    #[arg(long, value_name = "PATH")]
    pub peer: Vec<PathBuf>,
    /// Ratios are against this contender [default: crun, else the first peer]
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,
    /// Rounds; each measures every command of every contender once
    #[arg(long, value_name = "N", default_value = "20")]
    pub runs: u32,
    /// Pause before each measured command, as a machine that has other things to do
    #[arg(long, value_name = "MS", default_value = "0")]
    pub idle: u64,
    /// Views of cgroups to measure in (may be repeated) [default: auto]
    #[arg(long, value_enum)]
    pub view: Vec<View>,
    /// Also time a whole command line, such as 'shim=shim run --rm web true' (may be repeated)
    #[arg(long, value_name = "NAME=COMMAND")]
    pub command: Vec<String>,
    /// Only rows with this text in their name, such as "exec" (may be repeated)
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,
    /// Time networks instead: set-up and tear-down of a container with two published ports, by netctl (of --tools) and
    /// its peers
    #[arg(long)]
    pub net: bool,
    /// For --net: first attach so many other containers, with ten published ports each
    #[arg(long, value_name = "N", default_value = "0", requires = "net")]
    pub attached: u32,
    /// Load name servers instead: netctl (of --tools) and aardvark-dns, with so many names
    #[arg(long, value_name = "N", conflicts_with = "net", num_args = 0..=1, default_missing_value = "200")]
    pub names: Option<u32>,
    /// Load loggers instead: shim (of --tools) and conmon (--peer, or the one installed), with so many MiB of lines
    #[arg(long, value_name = "MIB", conflicts_with_all = ["net", "names"], num_args = 0..=1,
          default_missing_value = "1024")]
    pub logs: Option<u32>,
    /// For --logs: lines of so many bytes, newline included; several give several tables
    #[arg(long, value_name = "BYTES,…", requires = "logs", value_delimiter = ',', default_value = "100",
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub line: Vec<u32>,
    /// For --logs: into files on the disk that the work directory is on, not in memory
    #[arg(long, requires = "logs")]
    pub on_disk: bool,
    /// Time images instead: pull, unpack, build, save and load, by imgtool (of --tools), skopeo with umoci, podman and
    /// buildah
    #[arg(long, conflicts_with_all = ["net", "names", "logs"])]
    pub images: bool,
    /// Time engines instead: a container that runs and goes, a command in one, and what looks after one: shim (of
    /// --tools), podman and docker with a dockerd of its own
    #[arg(long, conflicts_with_all = ["net", "names", "logs", "images"])]
    pub engines: bool,
    /// For --images: measure this image, the one named `latest` in an OCI layout unless :NAME says otherwise, instead of
    /// one made of 9,000 files
    #[arg(long, value_name = "DIR[:NAME]", requires = "images")]
    pub image: Option<PathBuf>,
    /// Print every sample as JSON instead of the tables
    #[arg(long)]
    pub json: bool,
    /// Where the bundles are made
    #[arg(long, value_name = "DIR", env = "TMPDIR", default_value = "/tmp", hide_env = true)]
    pub work: PathBuf,
}
