//! `start`.

use anyhow::Result;
use contracts::fault;

use super::kill;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view;
use crate::init::wait;
use crate::spec::annotations;
use crate::{hooks, log};

/// Starts a created container's program.
///
/// # Errors
/// A fault of kind `WrongState` unless it is created; the program's or a hook's failure.
pub fn start(directory: &Directory) -> Result<()> {
    directory.lock()?;
    let state = directory.state()?;
    match Status::of(directory, &state)? {
        Status::Created => {}
        Status::Running => fault!(WrongState, "cannot start an already running container"),
        Status::Stopped => fault!(WrongState, "cannot start a container that has stopped"),
        status => fault!(WrongState, "cannot start a container in the {status} state"),
    }
    log::debug(format_args!("start process {}", state.init.map_or(0, |init| init.pid)));
    wait::start(directory)?;
    poststart(&state)
}

/// Runs the poststart hooks; the container dies of a failure.
///
/// # Errors
/// The failure.
pub fn poststart(state: &State) -> Result<()> {
    if state.hooks.poststart.is_empty() {
        return Ok(());
    }
    annotations::redirect_hooks(&state.annotations)?;
    let pid = state.init.map_or(0, |init| init.pid);
    let stdin = view::for_hook(state, Status::Running, pid);
    hooks::run("poststart", &state.hooks.poststart, &stdin).inspect_err(|_| {
        let _ = kill::everything(state);
    })
}
