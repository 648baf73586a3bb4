//! `runtime start`.

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::lifecycle::start::start;

/// Starts a created container.
///
/// # Errors
/// It is not created, or its program cannot be executed.
pub fn run(context: &Context, flags: &cli::Container) -> Result<Exit> {
    start(&Directory::open(&context.root, &flags.id)?)?;
    Ok(Exit::Ok)
}
