//! `imgtool unbundle`: the end of a bundle.

use std::path::PathBuf;

use anyhow::Result;
use contracts::exit::Exit;

use crate::bundle;

/// Unmount a bundle, remove its directory and let its layers go
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundles' directories; one that does not exist, or is empty, is fine
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// See [`bundle::remove`].
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store_alone()?;
    for dir in &args.dirs {
        bundle::remove(&store, dir)?;
    }
    Ok(Exit::Ok)
}
