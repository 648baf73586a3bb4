//! `netctl rm`, `netctl prune`.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault::Kind;

use super::print;
use crate::cli::Rm;
use crate::network;
use crate::state::State;

/// Removes networks; prints each name.
///
/// # Errors
/// The first failure; the others are removed all the same.
pub fn run(args: &Rm) -> Result<Exit> {
    let state = State::open()?;
    let mut failed = None;
    for name in &args.networks {
        let removed = network::find(&state, name).and_then(|network| network::remove(&state, &network));
        match removed {
            Ok(()) => print(&format!("{name}\n"))?,
            Err(err) if args.force && Kind::of(&err) == Some(Kind::NotFound) => {}
            Err(err) => failed = failed.or(Some(err)),
        }
    }
    failed.map_or(Ok(Exit::Ok), Err)
}

/// Removes all unused networks but the default one; prints each name.
///
/// # Errors
/// The file system's.
pub fn prune() -> Result<Exit> {
    let state = State::open()?;
    for network in network::all(&state)? {
        if !network::is_predefined(&network.name) && state.members(&network.name)?.is_empty() {
            network::remove(&state, &network)?;
            print(&format!("{}\n", network.name))?;
        }
    }
    Ok(Exit::Ok)
}
