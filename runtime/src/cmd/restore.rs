//! `runtime restore`.

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use super::run::stay;
use crate::cli;
use crate::lifecycle::foreground::{Foreground, become_subreaper};
use crate::lifecycle::restore::{Request, restore};

/// Restores a container from images and, unless detached, stays until its program ends and deletes it.
///
/// # Errors
/// Any; then nothing is left of it.
pub fn run(context: &Context, flags: &cli::checkpoint::Restore) -> Result<Exit> {
    let foreground = if flags.detach { None } else { Some(Foreground::prepare()?) };
    if foreground.is_some() && !flags.no_subreaper {
        become_subreaper()?;
    }
    let request =
        Request { root: &context.root, flags, rootless: context.rootless, manager: context.manager };
    let restored = restore(&request)?;
    match foreground {
        None => Ok(Exit::Ok),
        Some(foreground) => {
            let process = (&restored.pidfd, restored.terminal);
            stay((&foreground, None), &restored.directory, &restored.state, process, flags.keep)
        }
    }
}
