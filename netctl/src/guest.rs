//! Attachments that others keep the books of: a CNI runtime, podman. We only remember what their packets need of our
//! firewall, in `STATE/net/guests/`, so that every later change of the rules, whoever makes it, keeps them.

use std::path::PathBuf;

use anyhow::Result;
use contracts::atomic;
use serde::{Deserialize, Serialize};

use crate::attach::up::reload;
use crate::firewall::{Filter, Publish, Zone};
use crate::network::bridge;
use crate::state::{self, State};

/// Which attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container: String,
    /// The interface's name inside, with a suffix where one attachment has several parts.
    pub interface: String,
}

/// One attachment of somebody else's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Guest {
    /// Format of this document: 1.
    pub version: u32,
    /// Whose.
    pub key: Key,
    /// What the firewall needs to know of its network.
    pub zone: Option<Zone>,
    /// Its published ports.
    pub ports: Vec<Publish>,
    /// Name of the host's end of its veth pair; empty where the owner knows it.
    pub host_end: String,
}

fn file(state: &State, key: &Key) -> PathBuf {
    state.path(&["guests", &format!("{},{},{}.json", key.network, key.container, key.interface)])
}

/// The guest of that key.
///
/// # Errors
/// An unreadable file.
pub fn read(state: &State, key: &Key) -> Result<Option<Guest>> {
    atomic::read_json(&file(state, key))
}

/// All of them.
///
/// # Errors
/// An unreadable file.
pub fn all(state: &State) -> Result<Vec<Guest>> {
    let mut names = state::list(&state.path(&["guests"]))?;
    names.retain(|name| name.ends_with(".json"));
    names.sort();
    names
        .into_iter()
        .filter_map(|name| atomic::read_json(&state.path(&["guests", &name])).transpose())
        .collect()
}

/// What they publish. Of a container on several networks, each of which would have the port, the first one has it.
///
/// # Errors
/// An unreadable file.
pub fn ports(state: &State) -> Result<Vec<Publish>> {
    let mut found: Vec<(String, Publish)> = Vec::new();
    for guest in all(state)? {
        for port in guest.ports {
            let same = |(container, other): &(String, Publish)| {
                *container == guest.key.container
                    && (other.host, other.protocol, other.host_port)
                        == (port.host, port.protocol, port.host_port)
                    && other.to.is_ipv4() == port.to.is_ipv4()
            };
            if !found.iter().any(same) {
                found.push((guest.key.container.clone(), port));
            }
        }
    }
    Ok(found.into_iter().map(|(_, port)| port).collect())
}

/// Whether the same container publishes ports on another network, too.
fn has_others(state: &State, key: &Key) -> Result<bool> {
    let mut others = all(state)?.into_iter();
    Ok(others
        .any(|other| other.key.container == key.container && other.key != *key && !other.ports.is_empty()))
}

/// Enters one, and opens the firewall for it. The file comes first: a crash afterwards leaves rules that the guest's
/// removal takes away.
///
/// # Errors
/// The kernel's refusal, for example where the port is published to another container.
pub fn enter(state: &State, guest: &Guest) -> Result<()> {
    state::make_dir(&state.path(&["guests"]))?;
    let known = bridge::zones(state)?;
    atomic::write_json_volatile(&file(state, &guest.key), guest, 0o600)?;
    let filter = Filter::open(state.table)?;
    if bridge::zones(state)? != known {
        bridge::refresh(state, &filter)?;
    }
    if !guest.ports.is_empty() && (has_others(state, &guest.key)? || !filter.add_ports(&guest.ports)?) {
        reload(state, &filter, None)?;
    }
    Ok(())
}

/// Forgets one and closes the firewall behind it; one that is not there is no error.
///
/// # Errors
/// The kernel's refusal; then the next try goes on from here.
pub fn leave(state: &State, key: &Key) -> Result<()> {
    let Some(guest) = read(state, key)? else { return Ok(()) };
    let filter = Filter::open(state.table)?;
    let known = bridge::zones(state)?;
    let withdrawn =
        guest.ports.is_empty() || !has_others(state, key)? && filter.remove_ports(&guest.ports)?;
    state::remove(&file(state, key))?;
    if !withdrawn {
        reload(state, &filter, None)?;
    } else if bridge::zones(state)? != known {
        bridge::refresh(state, &filter)?;
    }
    let _ = std::fs::remove_dir(state.path(&["guests"]));
    filter.close_at_exit();
    Ok(())
}
