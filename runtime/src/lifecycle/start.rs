//! `start`.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::delete::destroy;
use super::kill;
use super::notify_socket::NotifySocket;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view;
use crate::hooks::{self, Environment};
use crate::init::wait;
use crate::log;
use crate::spec::annotations;

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
    let notify = NotifySocket::listen(directory)?;
    wait::start(directory)?;
    // The specification has the lifecycle go on from where the container is destroyed.
    poststart(&state).inspect_err(|_| {
        if let Err(err) = destroy(directory, &state) {
            log::warn(&format!("clean up after a failed hook: {err:#}"));
        }
    })?;
    let (Some(notify), Some(init)) = (notify, state.init) else { return Ok(()) };
    let Some(process) = init.open().context("open the container's process")? else { return Ok(()) };
    // Others may want to know or to end a container that is never ready.
    directory.unlock()?;
    notify.wait(process.as_fd(), init.pid);
    Ok(())
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
    hooks::run("poststart", &state.hooks.poststart, &stdin, Environment::Ours).inspect_err(|_| {
        let _ = kill::everything(state);
    })
}
