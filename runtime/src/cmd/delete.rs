//! `runtime delete`.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault::Kind;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::lifecycle::delete::delete;

/// Deletes a container.
///
/// # Errors
/// It does not exist (unless forced), or runs (unless forced).
pub fn run(context: &Context, flags: &cli::Delete) -> Result<Exit> {
    let directory = match Directory::open(&context.root, &flags.id) {
        Err(err) if flags.force && Kind::of(&err) == Some(Kind::NotFound) => return Ok(Exit::Ok),
        other => other?,
    };
    delete(&directory, flags.force)?;
    Ok(Exit::Ok)
}
