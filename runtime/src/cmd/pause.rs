//! `runtime pause`.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::container::status::Status;

/// Freezes all processes of a container.
///
/// # Errors
/// It is not running, or has no cgroup.
pub fn run(context: &Context, flags: &cli::Container) -> Result<Exit> {
    let directory = Directory::open(&context.root, &flags.id)?;
    directory.lock()?;
    let state = directory.state()?;
    if !matches!(Status::of(&directory, &state)?, Status::Running | Status::Created) {
        fault!(WrongState, "container not running");
    }
    state.cgroup.unwrap_or_default().freeze()?;
    Ok(Exit::Ok)
}
