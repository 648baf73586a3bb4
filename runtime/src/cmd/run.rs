//! `runtime run`.

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::lifecycle::create::{Created, Request, create};
use crate::lifecycle::delete::destroy;
use crate::lifecycle::foreground::{Foreground, become_subreaper};
use crate::lifecycle::start::poststart;

/// Creates and starts a container and, unless detached, stays until its program ends and deletes it.
///
/// # Errors
/// Any; then nothing is left of it.
pub fn run(context: &Context, flags: &cli::Run) -> Result<Exit> {
    crate::own_exe::protect()?;
    let foreground = if flags.detach { None } else { Some(Foreground::prepare()?) };
    if foreground.is_some() && !flags.no_subreaper {
        become_subreaper()?;
    }
    let request = Request {
        root: &context.root,
        flags: &flags.create,
        rootless: context.rootless,
        systemd: context.systemd,
        waits: false,
        detached: flags.detach,
    };
    let mut created = create(&request)?;
    if let Err(err) = created.launch().and_then(|()| poststart(&created.state)) {
        destroy(&created.directory, &created.state)?;
        return Err(err);
    }
    match foreground {
        None => Ok(Exit::Ok),
        Some(foreground) => stay(&foreground, &mut created, flags.keep),
    }
}

fn stay(foreground: &Foreground, created: &mut Created, keep: bool) -> Result<Exit> {
    // Others may want to exec into it, pause it or delete it meanwhile.
    created.directory.unlock()?;
    let code = foreground.wait(&created.pidfd, created.terminal.take())?;
    if !keep {
        created.directory.lock()?;
        // A `delete --force` may have been faster.
        if created.directory.load()?.is_some() {
            destroy(&created.directory, &created.state)?;
        }
    }
    Ok(Exit::Payload(code))
}
