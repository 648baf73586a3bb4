//! `runtime exec`.

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::lifecycle::exec::exec;
use crate::lifecycle::foreground::{Foreground, become_subreaper};

/// Runs a process in a container and, unless detached, stays until it ends.
///
/// # Errors
/// The container does not run, or the program cannot be executed.
pub fn run(context: &Context, flags: &cli::Exec) -> Result<Exit> {
    crate::own_exe::protect()?;
    let directory = Directory::open(&context.root, &flags.id)?;
    let foreground = if flags.detach { None } else { Some(Foreground::prepare()?) };
    if foreground.is_some() {
        become_subreaper()?;
    }
    let running = exec(&directory, flags)?;
    match foreground {
        None => Ok(Exit::Ok),
        Some(foreground) => Ok(Exit::Payload(foreground.wait(&running.pidfd, running.terminal, None)?)),
    }
}
