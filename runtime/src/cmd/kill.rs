//! `runtime kill`.

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::container::choice;
use crate::container::directory::Directory;
use crate::lifecycle::kill;

/// Sends a signal.
///
/// # Errors
/// An unknown signal, or no running container of that id.
pub fn run(context: &Context, flags: &cli::Kill) -> Result<Exit> {
    let signal = kill::parse_signal(&flags.signal)?;
    choice::for_each(&context.root, &flags.id, flags.regex, |id| {
        kill::kill(&Directory::open(&context.root, id)?, signal, flags.all)
    })?;
    Ok(Exit::Ok)
}
