//! `runtime run`.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::lifecycle::create::{Request, create};
use crate::lifecycle::delete::destroy;
use crate::lifecycle::foreground::{Foreground, become_subreaper};
use crate::lifecycle::notify_socket::NotifySocket;
use crate::lifecycle::start::poststart;

/// Creates and starts a container and, unless detached, stays until its program ends and deletes it.
///
/// # Errors
/// Any; then nothing is left of it.
pub fn run(context: &Context, flags: &cli::Run) -> Result<Exit> {
    let foreground = if flags.detach { None } else { Some(Foreground::prepare()?) };
    if foreground.is_some() && !flags.create.no_subreaper {
        become_subreaper()?;
    }
    let request = Request {
        root: &context.root,
        flags: &flags.create,
        rootless: context.rootless,
        manager: context.manager,
        waits: false,
        detached: flags.detach,
    };
    let created = create(&request)?;
    if let Err(err) = created.launch().and_then(|()| poststart(&created.state)) {
        destroy(&created.directory, &created.state)?;
        return Err(err);
    }
    match foreground {
        None => {
            if let (Some(notify), Some(init)) = (created.notify, created.state.init) {
                created.directory.unlock()?;
                notify.wait(created.pidfd.as_fd(), init.pid);
            }
            Ok(Exit::Ok)
        }
        Some(foreground) => {
            let process = (&created.pidfd, created.terminal);
            stay((&foreground, created.notify), &created.directory, &created.state, process, flags.keep)
        }
    }
}

/// Waits for a container's first process, a child of ours with or without its terminal, and deletes the container
/// unless it is to be kept.
///
/// # Errors
/// It cannot be deleted.
pub fn stay(
    foreground: (&Foreground, Option<NotifySocket>),
    directory: &Directory,
    state: &State,
    (pidfd, terminal): (&OwnedFd, Option<OwnedFd>),
    keep: bool,
) -> Result<Exit> {
    // Others may want to exec into it, pause it or delete it meanwhile.
    directory.unlock()?;
    let code = foreground.0.wait(pidfd, terminal, foreground.1)?;
    if !keep {
        directory.lock()?;
        // A `delete --force` may have been faster.
        if directory.is_there()? {
            destroy(directory, state)?;
        }
    }
    Ok(Exit::Payload(code))
}
