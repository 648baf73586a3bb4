//! Attachments that others keep the books of: a CNI runtime, podman. We only remember what their packets need of our
//! firewall, in `STATE/net/guests/<zone>/<id>/<network>,<interface>.json`, so that every later change of the rules,
//! whoever makes it, keeps them.

use anyhow::Result;
use contracts::atomic;
use serde::{Deserialize, Serialize};

use crate::firewall::{Publish, Zone, stations::Station};
use crate::state::{self, State};

/// In a zone's directory while its rules are not written yet.
pub(super) const NEW: &str = ".new";

/// Which attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The container's id.
    pub container: String,
    /// The network's name.
    pub network: String,
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
    /// The one MAC address that it may send from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub station: Option<Station>,
}

/// Which directory: guests with the same zone share one, so that the zones are known without reading every guest.
pub(super) fn zone_name(zone: Option<&Zone>) -> Result<String> {
    let Some(zone) = zone else { return Ok("none".into()) };
    // FNV-1a: it only has to be the same next time.
    let digest = serde_json::to_vec(zone)?.iter().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(format!("{digest:016x}"))
}

pub(super) fn file_name(key: &Key) -> String {
    format!("{},{}.json", key.network, key.interface)
}

pub(super) fn zone_names(state: &State) -> Result<Vec<String>> {
    let mut names = state::list(&state.path(&["guests"]))?;
    names.sort();
    Ok(names)
}

/// The guest of that key, with the name of its directory.
pub(super) fn find(state: &State, key: &Key) -> Result<Option<(String, Guest)>> {
    for zone in zone_names(state)? {
        let path = state.path(&["guests", &zone, &key.container, &file_name(key)]);
        if let Some(guest) = atomic::read_json(&path)? {
            return Ok(Some((zone, guest)));
        }
    }
    Ok(None)
}

/// The guest of that key.
///
/// # Errors
/// An unreadable file.
pub fn read(state: &State, key: &Key) -> Result<Option<Guest>> {
    Ok(find(state, key)?.map(|(_, guest)| guest))
}

/// All of them.
///
/// # Errors
/// An unreadable file.
pub fn all(state: &State) -> Result<Vec<Guest>> {
    let mut found = Vec::new();
    for zone in zone_names(state)? {
        for container in containers(state, &zone)? {
            found.extend(of_container(state, &zone, &container)?);
        }
    }
    found.sort_by(|one: &Guest, other| one.key.cmp(&other.key));
    Ok(found)
}

pub(super) fn containers(state: &State, zone: &str) -> Result<Vec<String>> {
    let mut names = state::list(&state.path(&["guests", zone]))?;
    names.retain(|name| name != NEW);
    Ok(names)
}

fn of_container(state: &State, zone: &str, container: &str) -> Result<Vec<Guest>> {
    let mut names = state::list(&state.path(&["guests", zone, container]))?;
    names.retain(|name| name.ends_with(".json"));
    names
        .iter()
        .filter_map(|name| atomic::read_json(&state.path(&["guests", zone, container, name])).transpose())
        .collect()
}

/// What the firewall needs to know of their networks.
///
/// # Errors
/// An unreadable file.
pub fn zones(state: &State) -> Result<Vec<Zone>> {
    let mut found = Vec::new();
    for name in zone_names(state)? {
        for container in containers(state, &name)? {
            if let Some(guest) = of_container(state, &name, &container)?.into_iter().next() {
                found.extend(guest.zone);
                break;
            }
        }
    }
    Ok(found)
}

/// What they publish. Of a container on several networks, each of which would have the port, the first one has it.
pub fn ports(guests: &[Guest]) -> Vec<Publish> {
    let mut found: Vec<Publish> = Vec::new();
    // Those of one container stand together.
    let (mut container, mut start) = (String::new(), 0);
    for guest in guests {
        if guest.key.container != container {
            container.clone_from(&guest.key.container);
            start = found.len();
        }
        for port in guest.ports.iter().copied() {
            let same = |other: &Publish| {
                (other.host, other.protocol, other.host_port) == (port.host, port.protocol, port.host_port)
                    && other.to.is_ipv4() == port.to.is_ipv4()
            };
            if !found[start..].iter().any(same) {
                found.push(port);
            }
        }
    }
    found
}

/// Whether the same container publishes ports on another network, too.
///
/// # Errors
/// An unreadable file.
pub fn has_others(state: &State, key: &Key) -> Result<bool> {
    for zone in zone_names(state)? {
        let mut others = of_container(state, &zone, &key.container)?.into_iter();
        if others.any(|other| other.key != *key && !other.ports.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes directories that are empty now, also of what killed commands left in them (nobody writes while we hold the
/// lock). Whether the zone's went.
///
/// # Errors
/// One cannot be removed.
pub fn sweep(state: &State, zone: &str, container: &str) -> Result<bool> {
    let own = state.path(&["guests", zone, container]);
    for name in state::list(&own)?.iter().filter(|name| name.ends_with(".tmp")) {
        state::remove(&own.join(name))?;
    }
    let _ = std::fs::remove_dir(own);
    let whole = state.path(&["guests", zone]);
    if !whole.join(NEW).exists() {
        // That it is not empty is for the kernel to see: there may be thousands.
        return Ok(std::fs::remove_dir(whole).is_ok());
    }
    if !containers(state, zone)?.is_empty() {
        return Ok(false);
    }
    state::remove(&state.path(&["guests", zone, NEW]))?;
    Ok(std::fs::remove_dir(whole).is_ok())
}
