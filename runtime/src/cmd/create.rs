//! `runtime create`.

use anyhow::Result;
use contracts::exit::Exit;

use super::Context;
use crate::cli;
use crate::lifecycle::create::{Request, create};

/// Creates a container whose process waits for `start`.
///
/// # Errors
/// Any; then nothing is left of it.
pub fn run(context: &Context, flags: &cli::Create) -> Result<Exit> {
    let request = Request {
        root: &context.root,
        flags,
        rootless: context.rootless,
        manager: context.manager,
        waits: true,
        detached: true,
    };
    create(&request)?.release()?;
    Ok(Exit::Ok)
}
