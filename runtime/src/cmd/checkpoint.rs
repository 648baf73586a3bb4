//! `runtime checkpoint`.

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::lifecycle::checkpoint::checkpoint;

/// Writes a running container's processes into images.
///
/// # Errors
/// It does not run, or CRIU cannot dump it.
pub fn run(context: &Context, flags: &cli::checkpoint::Checkpoint) -> Result<Exit> {
    checkpoint(&Directory::open(&context.root, &flags.id)?, flags)?;
    Ok(Exit::Ok)
}
