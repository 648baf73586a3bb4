//! Flags of `run` and `create` that podman has and docker has not.

use clap::Args;

/// See the flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "As podman has them")]
#[allow(clippy::struct_excessive_bools)]
pub struct PodmanFlags {
    /// Remove a container that has this name already
    #[arg(long, requires = "name")]
    pub replace: bool,
    /// All environment variables of this shell
    #[arg(long)]
    pub env_host: bool,
    /// The proxies of this shell's environment
    #[arg(long)]
    pub http_proxy: bool,
    /// Not this variable of the image
    #[arg(long, value_name = "NAME")]
    pub unsetenv: Vec<String>,
    /// None of the image's variables
    #[arg(long)]
    pub unsetenv_all: bool,
    /// Mask of the modes of new files, octal
    #[arg(long, value_name = "MASK")]
    pub umask: Option<String>,
    /// Time zone: Area/City, or local
    #[arg(long, value_name = "ZONE")]
    pub tz: Option<String>,
    /// Kill the container when it has run for so long
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// With --read-only: a tmpfs on /run, /tmp and /var/tmp
    #[arg(long)]
    pub read_only_tmpfs: bool,
    /// Keep the image's /etc/hosts
    #[arg(long)]
    pub no_hosts: bool,
    /// Keep the image's /etc/hostname
    #[arg(long)]
    pub no_hostname: bool,
    /// Architecture of the image
    #[arg(long, conflicts_with = "platform")]
    pub arch: Option<String>,
    /// Operating system of the image
    #[arg(long, conflicts_with = "platform")]
    pub os: Option<String>,
    /// Variant of the architecture
    #[arg(long, conflicts_with = "platform")]
    pub variant: Option<String>,
}
