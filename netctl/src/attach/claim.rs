//! Leases: who has which address of a network. One file per address, so that a lease costs the same whatever the
//! number of containers.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::fault;

use crate::network::{Network, Subnet};
use crate::state::{self, State};

fn file(state: &State, network: &str, address: IpAddr) -> PathBuf {
    state.path(&["leases", network, &address.to_string()])
}

/// The file that remembers where the last lease was, so that an address is used again as late as possible.
fn cursor(state: &State, network: &str, subnet: &Subnet) -> PathBuf {
    let family = if subnet.subnet.address.is_ipv4() { 4 } else { 6 };
    state.path(&["leases", &format!(".last{family}.{network}")])
}

/// Leases `wanted`, or the next free address.
///
/// # Errors
/// `Usage` for an address outside of the subnet, `Busy` for a taken one or a subnet that has none left.
pub fn lease(
    state: &State,
    network: &Network,
    subnet: &Subnet,
    id: &str,
    wanted: Option<IpAddr>,
) -> Result<IpAddr> {
    if let Some(address) = wanted {
        if !subnet.subnet.contains(address) {
            fault!(Usage, "network {}: no configured subnet contains the address {address}", network.name);
        }
        if reserved(network, subnet, address) {
            fault!(Busy, "network {}: address {address} is reserved", network.name);
        }
        if let Some(owner) = take(state, &network.name, address, id)? {
            fault!(Busy, "network {}: address {address} already in use by {owner}", network.name);
        }
        return Ok(address);
    }
    let range = subnet.range.unwrap_or(subnet.subnet);
    let size = range.size();
    let cursor = cursor(state, &network.name, subnet);
    let last = state::read(&cursor)?.and_then(|text| text.parse::<IpAddr>().ok());
    let start = last.filter(|last| range.contains(*last)).map_or(0, |last| range.offset(last) + 1);
    // A 64-bit subnet is not walked to its end: nobody has that many containers.
    for step in 0..size.min(1 << 20) {
        let address = range.nth((start + step) % size);
        if !reserved(network, subnet, address) && take(state, &network.name, address, id)?.is_none() {
            fs::write(&cursor, address.to_string()).with_context(|| format!("write {}", cursor.display()))?;
            return Ok(address);
        }
    }
    fault!(Busy, "network {}: no address left in {range}", network.name)
}

fn reserved(network: &Network, subnet: &Subnet, address: IpAddr) -> bool {
    let wire = network.on_wire(subnet);
    let broadcast = address.is_ipv4() && address == wire.last();
    let everybody = address == wire.first() || broadcast;
    everybody || subnet.gateway == Some(address) || subnet.auxiliary.values().any(|other| *other == address)
}

/// Claims an address; one whose owner has no record any more (a crash, a reboot) is taken over.
fn take(state: &State, network: &str, address: IpAddr, id: &str) -> Result<Option<String>> {
    let path = file(state, network, address);
    let Some(owner) = state::claim(&path, id)? else { return Ok(None) };
    if is_alive(state, &owner) {
        return Ok(Some(owner));
    }
    state::remove(&path)?;
    state::claim(&path, id)
}

/// Whether the owner of a claim is attached.
pub fn is_alive(state: &State, owner: &str) -> bool {
    !owner.is_empty() && state.path(&["attachments", &format!("{owner}.json")]).exists()
}

/// Gives an address back.
///
/// # Errors
/// The file system's.
pub fn give_back(state: &State, network: &str, id: &str, address: IpAddr) -> Result<()> {
    state::release(&file(state, network, address), id)
}

/// Gives all addresses of `id` on a network back, known or not.
///
/// # Errors
/// The file system's.
pub fn give_back_all(state: &State, network: &str, id: &str) -> Result<()> {
    let dir = state.path(&["leases", network]);
    for address in state::list(&dir)? {
        if state::read(&dir.join(&address))?.as_deref() == Some(id) {
            state::release(&dir.join(&address), id)?;
        }
    }
    Ok(())
}

/// Forgets the networks that have no members: their rotation starts anew.
///
/// # Errors
/// The file system's.
pub fn forget_idle(state: &State) -> Result<()> {
    let live = state.live()?;
    for name in state::list(&state.path(&["leases"]))? {
        let network = name.strip_prefix(".last4.").or_else(|| name.strip_prefix(".last6."));
        if let Some(network) = network.filter(|network| !live.iter().any(|name| name == network)) {
            state::remove(&state.path(&["leases", &name]))?;
            let _ = fs::remove_dir(state.path(&["leases", network]));
        }
    }
    let _ = fs::remove_dir(state.path(&["leases"]));
    Ok(())
}
