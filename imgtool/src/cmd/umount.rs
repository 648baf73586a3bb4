//! `imgtool umount`: a bundle's rootfs, unmounted.

use std::path::PathBuf;

use anyhow::Result;
use contracts::exit::Exit;

use crate::bundle::record::Record;
use crate::rootfs::RootFs;

/// Unmount a bundle's rootfs; its changes stay for the next mount
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle's directory
    dir: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// No bundle there; something inside is in use.
pub fn run(args: &Args) -> Result<Exit> {
    let record = Record::of(&args.dir)?;
    RootFs::at(&record.bundle).unmount()?;
    Ok(Exit::Ok)
}
