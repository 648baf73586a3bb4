//! `delete`: processes, cgroup, directory, hooks. Each step can be done again, so an interrupted one can be too.

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::libc;

use super::kill;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view;
use crate::rootfs::shared;
use crate::spec::annotations;
use crate::{hooks, log};

/// Deletes a container that is stopped, or was never started; with `force` in any state.
///
/// # Errors
/// A fault of kind `WrongState` where it runs; a process or cgroup that cannot be removed.
pub fn delete(directory: &Directory, force: bool) -> Result<()> {
    if !directory.try_lock()? {
        if !force {
            // A `create` or `start` under way ends soon, one way or the other.
            log::debug(format_args!("waiting for another command on this container"));
        }
        directory.lock()?;
    }
    let state = match directory.load() {
        Ok(Some(state)) => state,
        // Left by a `create` that was killed before it had made anything.
        Ok(None) => return directory.remove(),
        Err(err) if force => {
            log::warn(&format!("{err:#}; removing what is there"));
            return directory.remove();
        }
        Err(err) => return Err(err),
    };
    match Status::of(directory, &state)? {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => fault!(WrongState, "cannot delete container {} that is not stopped: {status}", state.id),
    }
    destroy(directory, &state)
}

/// Removes all that belongs to a container; its processes are killed. The directory's lock is held.
///
/// # Errors
/// As [`delete`].
pub fn destroy(directory: &Directory, state: &State) -> Result<()> {
    if state.init.is_none() {
        // A creation that was killed: its process, if it got as far, ends by itself as soon as it notices. The cgroup
        // may be another container's, which the creation was about to be refused; so nothing in it is killed.
        if let Some(cgroup) = &state.cgroup {
            cgroup.remove_unfinished()?;
        }
        if let Some(group) = &state.intel_rdt {
            group.remove()?;
        }
        unmount(state)?;
        return directory.remove();
    }
    log::debug(format_args!("remove container {}", state.id));
    let ended = state.init.is_some_and(|init| !init.is_running());
    // All processes of a PID namespace die with its first.
    if !(ended && state.namespaces & libc::CLONE_NEWPID != 0) {
        kill::everything(state).context("kill the container's processes")?;
    }
    if let Some(cgroup) = &state.cgroup {
        match cgroup.remove() {
            Ok(()) => {}
            // Processes that `exec` put there may be members of another PID namespace.
            Err(_) => {
                cgroup.kill_all()?;
                cgroup.remove()?;
            }
        }
    }
    if let Some(group) = &state.intel_rdt {
        group.remove()?;
    }
    unmount(state)?;
    directory.remove()?;
    if !state.hooks.poststop.is_empty() {
        if let Err(err) = annotations::redirect_hooks(&state.annotations) {
            log::warn(&format!("{err:#}"));
        }
        let stdin = view::for_hook(state, Status::Stopped, 0);
        hooks::run_all("poststop", &state.hooks.poststop, &stdin);
    }
    Ok(())
}

/// A mount namespace goes with its last process; what was mounted in the runtime's stays until it is unmounted.
fn unmount(state: &State) -> Result<()> {
    state.shared_root.map_or(Ok(()), |id| shared::undo(&state.rootfs, id))
}
