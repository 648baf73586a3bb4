//! Which containers a verb is for, as podman's flags say it.

use std::path::PathBuf;

use clap::Args;

/// Names, or what chooses them.
#[derive(Debug, Default, Args)]
pub struct Selection {
    /// All containers that this can be done to
    #[arg(short, long, conflicts_with_all = ["containers", "latest"])]
    pub all: bool,
    /// The container that was made last
    #[arg(short, long, conflicts_with = "containers")]
    pub latest: bool,
    /// The container whose id is in this file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Vec<PathBuf>,
    /// The containers that match KEY=VALUE (see `shim ps --help`)
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["containers", "latest"])]
    pub filter: Vec<String>,
    #[arg(required_unless_present_any = ["all", "latest", "cidfile", "filter"], value_name = "CONTAINER")]
    pub containers: Vec<String>,
}
