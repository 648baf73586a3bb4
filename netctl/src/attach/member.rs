//! Who is on a network: `STATE/net/members/<network>/<id>`, and the same for the name server, with names and
//! addresses, in `STATE/net/dns/<network>.json`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::{atomic, fault};

use super::files::host_resolver;
use super::record::Record;
use crate::cidr::Cidr;
use crate::dns;
use crate::dns::zone::{Entry, Zone};
use crate::network::Network;
use crate::state::{self, State};

fn zone_file(state: &State, network: &str) -> PathBuf {
    state.path(&["dns", &format!("{network}.json")])
}

/// Enters the record's container on `network`, before anything is made for it: from here on, the network is taken
/// down with its last member. Whether it is the first one.
///
/// # Errors
/// The file system's.
pub fn enter(state: &State, record: &Record, network: &Network) -> Result<bool> {
    let first = state.members(&network.name)?.is_empty();
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
    let file = zone_file(state, &network.name);
    state::make_dir(&state.path(&["dns"]))?;
    let mut zone = atomic::read_json::<Zone>(&file)?.unwrap_or_default();
    zone.version = 1;
    zone.listen = network.gateways();
    zone.internal = network.internal;
    zone.upstream = host_resolver().servers;
    zone.entries.retain(|entry| entry.id != record.id);
    zone.entries.push(entry(record, &network.name));
    atomic::write_json_volatile(&file, &zone, 0o600)?;
    dns::start(&file).with_context(|| format!("names of network {}", network.name))
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
    let file = zone_file(state, network);
    let Some(mut zone) = atomic::read_json::<Zone>(&file)? else { return Ok(()) };
    zone.entries.retain(|entry| entry.id != id);
    if zone.entries.is_empty() {
        // The server sees it go, and goes.
        return state::remove(&file);
    }
    atomic::write_json_volatile(&file, &zone, 0o600)
}
