//! `netctl down`.

use anyhow::Result;
use contracts::exit::Exit;

use crate::attach;
use crate::cli::Down;
use crate::state::State;

/// Detaches a container.
///
/// # Errors
/// As [`attach::down::down`].
pub fn run(args: &Down) -> Result<Exit> {
    attach::down::down(&State::open()?, &args.id, args.wait)?;
    Ok(Exit::Ok)
}
