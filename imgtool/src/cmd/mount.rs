//! `imgtool mount`: a bundle's rootfs, mounted again.

use std::path::PathBuf;

use anyhow::Result;
use contracts::exit::Exit;

use crate::{bundle, stdout};

/// Mount an existing bundle's rootfs again (after a reboot or an umount) and print where
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle's directory
    dir: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// See [`bundle::mount`].
pub fn run(args: &Args) -> Result<Exit> {
    let target = bundle::mount(&super::open_store()?, &args.dir)?;
    stdout::line(target.display().to_string())?;
    Ok(Exit::Ok)
}
