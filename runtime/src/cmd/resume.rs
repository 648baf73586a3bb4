//! `runtime resume`.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::container::status::Status;

/// Lets the processes of a paused container run again.
///
/// # Errors
/// It is not paused.
pub fn run(context: &Context, flags: &cli::Container) -> Result<Exit> {
    let directory = Directory::open(&context.root, &flags.id)?;
    directory.lock()?;
    let state = directory.state()?;
    if Status::of(&directory, &state)? != Status::Paused {
        fault!(WrongState, "container not paused");
    }
    state.cgroup.unwrap_or_default().thaw()?;
    Ok(Exit::Ok)
}
