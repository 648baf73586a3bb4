//! `STATE/net/members/<network>/`: who is on a network by what names, and `.server`: where to answer.

use std::net::IpAddr;

use anyhow::Result;
use contracts::atomic;
use serde::{Deserialize, Serialize};

use crate::attach::record::Record;
use crate::cidr::Cidr;
use crate::network::Network;
use crate::state::{self, State};

/// The file about the network itself.
pub const SERVER: &str = ".server";

/// One container on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// Names it answers to, the first also for PTR.
    pub names: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// Servers that its other queries go to; none: the host's.
    pub servers: Vec<IpAddr>,
}

/// What the server needs to know of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Addresses to listen on; none where names are switched off.
    pub listen: Vec<IpAddr>,
    /// Nothing is forwarded.
    pub internal: bool,
}

/// Enters the record's container on `network`.
///
/// # Errors
/// The file system's.
pub fn write(state: &State, record: &Record, network: &Network) -> Result<()> {
    let dir = state.path(&["members", &network.name]);
    state::make_dir(&dir)?;
    let server = dir.join(SERVER);
    if !server.exists() {
        let listen = if network.dns { network.gateways() } else { Vec::new() };
        atomic::write_json(&server, &Server { listen, internal: network.internal }, 0o600)?;
    }
    atomic::write_json(&dir.join(&record.id), &member(record, &network.name), 0o600)
}

fn member(record: &Record, network: &str) -> Member {
    let Some(endpoint) = record.status.networks.get(network) else { return Member::default() };
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
    Member { names, addresses, servers: record.request.dns.servers.clone() }
}
