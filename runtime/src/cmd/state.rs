//! `runtime state`.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::container::directory::Directory;
use crate::container::status::Status;
use crate::container::view::View;

/// Prints the state as JSON.
///
/// # Errors
/// No such container.
pub fn run(context: &Context, flags: &cli::Container) -> Result<Exit> {
    let directory = Directory::open(&context.root, &flags.id)?;
    let state = directory.state()?;
    let status = Status::of(&directory, &state)?;
    let mut text = serde_json::to_vec_pretty(&View::new(&state, status))?;
    text.push(b'\n');
    std::io::stdout().write_all(&text).context("write to stdout")?;
    Ok(Exit::Ok)
}
