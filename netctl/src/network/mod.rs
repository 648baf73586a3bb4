//! Networks: their definitions, the subnets they get, the bridges they are while somebody uses them.

pub mod bridge;
pub mod definition;
pub mod options;
pub mod overlay;
pub mod peers;
pub mod pool;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use contracts::{atomic, fault, name};

use crate::netlink::socket::Socket;
use crate::state::{self, State};
pub use definition::{Network, Subnet};

/// The network of a container that asks for none; made on first use.
pub const DEFAULT: &str = "bridge";
/// Not networks but modes; nobody can make or remove them.
pub const PREDEFINED: [&str; 2] = ["host", "none"];

/// Whether nobody made it and nobody can remove it.
pub fn is_predefined(name: &str) -> bool {
    name == DEFAULT || PREDEFINED.contains(&name)
}

fn file(state: &State, network: &str) -> PathBuf {
    state.networks.join(format!("{network}.json"))
}

/// The network of that name (or id, or the only one whose id begins so).
///
/// # Errors
/// `NotFound`, or an unreadable definition.
pub fn find(state: &State, wanted: &str) -> Result<Network> {
    if name::check("network", wanted).is_ok() {
        if let Some(network) = atomic::read_json(&file(state, wanted))? {
            return Ok(network);
        }
        if wanted == DEFAULT {
            let network = Network::default_bridge(pool::choose(state, pool::Size::Default)?)?;
            save(state, &network)?;
            return Ok(network);
        }
        if PREDEFINED.contains(&wanted) {
            return Ok(Network::mode(wanted));
        }
        let mut by_id = all(state)?.into_iter().filter(|network| network.id.starts_with(wanted));
        if let (Some(network), None) = (by_id.next(), by_id.next()) {
            return Ok(network);
        }
    }
    fault!(NotFound, "network {} not found", wanted.escape_default())
}

/// All networks, in order of name: those that were made (the default one once it was used) and the modes.
///
/// # Errors
/// An unreadable definition.
pub fn all(state: &State) -> Result<Vec<Network>> {
    let mut names: Vec<String> = state::list(&state.networks)?
        .into_iter()
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_owned()))
        .collect();
    names.extend(PREDEFINED.map(String::from));
    names.sort();
    let read = |name: String| match PREDEFINED.contains(&name.as_str()) {
        true => Some(Ok(Network::mode(&name))),
        false => atomic::read_json(&file(state, &name)).transpose(),
    };
    names.into_iter().filter_map(read).collect()
}

/// Writes a definition.
///
/// # Errors
/// The file system's.
pub fn save(state: &State, network: &Network) -> Result<()> {
    fs::create_dir_all(&state.networks)?;
    atomic::write_json(&file(state, &network.name), network, 0o644)
}

/// Removes a network that nobody uses.
///
/// # Errors
/// `Busy` with the names of those on it, `Denied` for the default one.
pub fn remove(state: &State, network: &Network) -> Result<()> {
    if is_predefined(&network.name) {
        fault!(Denied, "{} is a pre-defined network and cannot be removed", network.name);
    }
    let members = state.members(&network.name)?;
    if !members.is_empty() {
        fault!(Busy, "network {} has active endpoints ({})", network.name, members.join(", "));
    }
    if network.driver == "overlay" {
        peers::forget(network, &Socket::route()?)?;
    }
    atomic::sweep(&state.networks);
    state::remove(&file(state, &network.name))
}
