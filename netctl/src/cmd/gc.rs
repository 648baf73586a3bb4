//! `netctl gc`, `netctl reload`.

use anyhow::Result;
use contracts::exit::Exit;

use super::print;
use crate::attach;
use crate::dhcp;
use crate::firewall::{Filter, choice};
use crate::netlink::socket::Socket;
use crate::network::{self, bridge};
use crate::rootless;
use crate::rules;
use crate::state::State;

/// Removes left-overs; prints the ids they belonged to.
///
/// # Errors
/// The kernel's or the file system's refusal.
pub fn run() -> Result<Exit> {
    let state = State::open()?;
    for id in attach::down::collect(&state)? {
        print(&format!("{id}\n"))?;
    }
    dhcp::refresh(&state.path(&["dhcp"]))?;
    Ok(Exit::Ok)
}

/// Writes all firewall rules anew, joins the networks with other hosts as they are listed now, and starts name servers
/// and keepers of leases that were killed. With `--firewall` the rules move there.
///
/// # Errors
/// The kernel's refusal.
pub fn reload() -> Result<Exit> {
    let state = State::open()?;
    rules::move_rules(&state)?;
    let host = Socket::route()?;
    for name in state.live()? {
        let network = network::find(&state, &name)?;
        bridge::ensure(&host, &network)?;
        attach::member::refresh(&state, &network)?;
    }
    rootless::expect()?;
    rules::reload(&state, &Filter::open(&state)?, None)?;
    choice::forget(&state)?;
    dhcp::refresh(&state.path(&["dhcp"]))?;
    Ok(Exit::Ok)
}
