//! Flags of `checkpoint` and `restore`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `shim checkpoint CONTAINER…`, `shim checkpoint create|ls|rm …`
#[derive(Debug, Args)]
pub struct CheckpointCommand {
    #[command(subcommand)]
    pub verb: Option<CheckpointVerb>,
    #[command(flatten)]
    pub dump: CheckpointDump,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
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
pub struct RestoreFlags {
    /// Keep the checkpoint: it can be restored again
    #[arg(short, long)]
    pub keep: bool,
    #[arg(required = true, value_name = "CONTAINER")]
    pub containers: Vec<String>,
}
