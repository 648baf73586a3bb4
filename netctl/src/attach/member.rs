//! Who is on a network: `STATE/net/members/<network>/<id>`, and the same for the name server, with names and
//! addresses, in `STATE/net/dns/<network>` ([`crate::dns::zone`]).

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::record::Record;
use crate::cidr::Cidr;
use crate::dns;
use crate::dns::shared::{self, Shared};
use crate::dns::zone::{Entry, Zone};
use crate::netlink::socket::Socket;
use crate::network::{self, Network, peers};
use crate::state::{self, State};

/// Enters the record's container on `network`, before anything is made for it: from here on, the network is taken
/// down with its last member. Whether it is the first one.
///
/// # Errors
/// The file system's.
pub fn enter(state: &State, record: &Record, network: &Network) -> Result<bool> {
    let first = !state.has_members(&network.name)?;
    let path = state.path(&["members", &network.name, &record.id]);
    if let Some(owner) = state::claim(&path, &record.id)? {
        fault!(Exists, "{} is on network {} as {owner}", record.id, network.name);
    }
    Ok(first)
}

/// Has the container's names answered on `network`.
///
/// # Errors
/// The name server cannot listen on the gateway's address, or cannot be started.
pub fn announce(state: &State, record: &Record, network: &Network) -> Result<()> {
    if !network.dns || network.gateways().is_empty() {
        return Ok(());
    }
    let dir = state.path(&["dns"]);
    state::make_dir(&dir)?;
    let zone = Zone {
        network: network.name.clone(),
        listen: network.gateways(),
        internal: network.internal,
        ..Zone::default()
    };
    let named = || format!("names of network {}", network.name);
    if !dir.join(zone.file_name()).exists() {
        dns::try_listen(&dir, &zone.listen).with_context(named)?;
    }
    dns::file::enter(&dir, &zone, &entry(record, &network.name))?;
    if network.driver == "overlay" {
        share(state, network)?;
    }
    dns::start(&dir).with_context(named)
}

/// Says again what is on the network, here and to other hosts, and has a killed name server started.
///
/// # Errors
/// As [`announce`].
pub fn refresh(state: &State, network: &Network) -> Result<()> {
    let dir = state.path(&["dns"]);
    if dns::file::read(&dir, &network.name)?.is_none() {
        return Ok(());
    }
    if network.driver == "overlay" {
        share(state, network)?;
    }
    dns::start(&dir).with_context(|| format!("names of network {}", network.name))
}

/// Takes in what other hosts say of the network, and tells them what is on it here.
fn share(state: &State, network: &Network) -> Result<()> {
    let dir = state.path(&["dns"]);
    let zone = dns::file::read(&dir, &network.name)?.unwrap_or_default();
    if let Some(path) = peers::shared(network).filter(|_| !zone.entries.is_empty()) {
        let subnets = network.subnets.iter().map(|subnet| subnet.subnet).collect();
        shared::write(&dir, &network.name, &Shared { path: path.to_owned(), subnets })?;
    }
    let local = peers::local(network, &peers::read(network)?, &Socket::route()?)?;
    let named = |entry: &Entry| -> Vec<(IpAddr, Vec<String>)> {
        entry.addresses.iter().map(|address| (*address, entry.names.clone())).collect()
    };
    peers::tell(network, local, &zone.entries.iter().flat_map(named).collect::<Vec<_>>())
}

/// After a container has left: its name goes from what this host tells the others.
fn unshare(state: &State, network: &str) -> Result<()> {
    let dir = state.path(&["dns"]);
    if shared::read(&dir, network)?.is_none() {
        return Ok(());
    }
    if dns::file::read(&dir, network)?.is_none() {
        shared::remove(&dir, network)?;
    }
    // That the list is out of reach must keep nobody here: the next member says it again.
    if let Ok(network) = network::find(state, network) {
        let _ = share(state, &network);
    }
    Ok(())
}

fn entry(record: &Record, network: &str) -> Entry {
    let Some(endpoint) = record.status.networks.get(network) else { return Entry::default() };
    let short: String = record.id.chars().take(12).collect();
    let mut names: Vec<String> = Vec::new();
    let given = [&record.request.name, &record.request.hostname].into_iter();
    for name in given.chain(&endpoint.aliases).chain([&short, &record.id]) {
        let name = name.to_ascii_lowercase();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    let texts = [Some(&endpoint.address), endpoint.address6.as_ref()];
    let addresses = texts.into_iter().flatten().filter_map(|text| text.parse::<Cidr>().ok());
    let addresses = addresses.map(|cidr| cidr.address).collect();
    Entry { id: record.id.clone(), names, addresses, upstream: record.request.dns.servers.clone() }
}

/// Takes a container off a network; its names are no longer answered. Idempotent.
///
/// # Errors
/// The file system's.
pub fn leave(state: &State, id: &str, network: &str) -> Result<()> {
    state::remove(&state.path(&["members", network, id]))?;
    dns::file::leave(&state.path(&["dns"]), network, id)?;
    unshare(state, network)
}
