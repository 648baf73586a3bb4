//! `netctl gc`, `netctl reload`.

use anyhow::Result;
use contracts::exit::Exit;

use super::print;
use crate::attach;
use crate::firewall::Filter;
use crate::state::State;

/// Removes left-overs; prints the ids they belonged to.
///
/// # Errors
/// The kernel's or the file system's refusal.
pub fn run() -> Result<Exit> {
    for id in attach::down::collect(&State::open()?)? {
        print(&format!("{id}\n"))?;
    }
    Ok(Exit::Ok)
}

/// Writes all firewall rules anew.
///
/// # Errors
/// The kernel's refusal.
pub fn reload() -> Result<Exit> {
    let state = State::open()?;
    attach::up::reload(&state, &Filter::open(state.table)?, None)?;
    Ok(Exit::Ok)
}
