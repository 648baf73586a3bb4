//! `runtime delete`.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault::Kind;

use super::Context;
use crate::cli;
use crate::container::choice;
use crate::container::directory::Directory;
use crate::lifecycle::delete::delete;

/// Deletes a container.
///
/// # Errors
/// It does not exist (unless forced), or runs (unless forced).
pub fn run(context: &Context, flags: &cli::Delete) -> Result<Exit> {
    choice::for_each(&context.root, &flags.id, flags.regex, |id| match Directory::open(&context.root, id) {
        Err(err) if flags.force && Kind::of(&err) == Some(Kind::NotFound) => Ok(()),
        other => delete(&other?, flags.force),
    })?;
    Ok(Exit::Ok)
}
