<<<<<<< HEAD
//! What one network's name server knows: written by `netctl up` and `down`, read by the server.

use std::collections::HashMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `STATE/net/dns/<network>.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zone {
    /// Format of this document: 1.
    pub version: u32,
    /// The gateway addresses to serve on.
    pub listen: Vec<IpAddr>,
    /// Servers for every other name: the network's own, else the host's.
    pub upstream: Vec<IpAddr>,
    /// An internal network asks nobody outside.
    pub internal: bool,
    /// The containers on the network.
    pub entries: Vec<Entry>,
}

/// One container's names and addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// The container's id.
    pub id: String,
    /// Its name first (that is what an address resolves back to), then short id and aliases.
    pub names: Vec<String>,
    /// Its addresses on this network.
    pub addresses: Vec<IpAddr>,
    /// Servers that this container asked for instead of the network's.
    pub upstream: Vec<IpAddr>,
}

/// A zone turned round for look-ups.
#[derive(Debug, Default)]
pub struct Index {
    zone: Zone,
    by_name: HashMap<String, Vec<IpAddr>>,
    by_address: HashMap<IpAddr, usize>,
}

impl From<Zone> for Index {
    fn from(zone: Zone) -> Self {
        let mut by_name: HashMap<String, Vec<IpAddr>> = HashMap::new();
        let mut by_address = HashMap::new();
        for (position, entry) in zone.entries.iter().enumerate() {
            for name in &entry.names {
                let addresses = by_name.entry(name.to_ascii_lowercase()).or_default();
                addresses.extend(&entry.addresses);
            }
            by_address.extend(entry.addresses.iter().map(|address| (*address, position)));
        }
        Self { zone, by_name, by_address }
    }
}

impl Index {
    /// Whether nobody is left to serve.
    pub fn is_empty(&self) -> bool {
        self.zone.entries.is_empty()
    }

    /// The addresses of a name in lower case without a final dot; `None` where no container has it.
    pub fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// The name of the container with this address.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        let entry = &self.zone.entries[*self.by_address.get(&address)?];
        entry.names.first().map(String::as_str)
    }

    /// Whom to ask on behalf of `client`.
    pub fn upstream_for(&self, client: IpAddr) -> &[IpAddr] {
        if self.zone.internal {
            return &[];
        }
        let own =
            self.by_address.get(&client).map(|position| self.zone.entries[*position].upstream.as_slice());
        own.filter(|servers| !servers.is_empty()).unwrap_or(&self.zone.upstream)
    }

    /// Whether names outside are nobody's business here.
    pub fn is_internal(&self) -> bool {
        self.zone.internal
=======
//! All names of all networks, as the members' files give them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;

use super::member::{Member, SERVER, Server};
use crate::state;

/// One network's names.
#[derive(Debug, Default)]
pub struct Zone {
    /// Where and how it is answered.
    pub server: Server,
    members: HashMap<String, Member>,
    names: HashMap<String, Vec<IpAddr>>,
}

impl Zone {
    fn insert(&mut self, id: &str, member: Option<Member>) {
        if let Some(old) = self.members.remove(id) {
            for name in &old.names {
                if let Some(addresses) = self.names.get_mut(name) {
                    addresses.retain(|address| !old.addresses.contains(address));
                    if addresses.is_empty() {
                        self.names.remove(name);
                    }
                }
            }
        }
        if let Some(member) = member {
            for name in &member.names {
                self.names.entry(name.clone()).or_default().extend(&member.addresses);
            }
            self.members.insert(id.into(), member);
        }
    }
}

/// All networks.
#[derive(Debug, Default)]
pub struct Zones {
    zones: BTreeMap<String, Zone>,
    /// Address → the networks and the id of the container that asks from it.
    clients: HashMap<IpAddr, (String, String)>,
    turn: usize,
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

impl Zones {
    /// Reads what there is about `id` in `dir` (`STATE/net/members`), and everything about networks not yet known.
    pub fn reload(&mut self, dir: &Path, id: &str) {
        let networks = state::list(dir).unwrap_or_default();
        self.zones.retain(|name, _| networks.contains(name));
        for network in networks {
            let path = dir.join(&network);
            let ids = match self.zones.get(&network) {
                Some(_) => vec![id.to_owned()],
                None => state::list(&path).unwrap_or_default(),
            };
            let zone = self.zones.entry(network).or_default();
            zone.server = parse(&path.join(SERVER)).unwrap_or_default();
            for id in ids.iter().filter(|id| !id.starts_with('.') && !id.is_empty()) {
                zone.insert(id, parse(&path.join(id)));
            }
        }
        self.clients.clear();
        for (network, zone) in &self.zones {
            for (id, member) in &zone.members {
                for address in &member.addresses {
                    self.clients.insert(*address, (network.clone(), id.clone()));
                }
            }
        }
    }

    /// The networks by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Zone)> {
        self.zones.iter()
    }

    /// Whether there is any.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// The networks whose names a client may see: those that it is on, the asked one first.
    fn visible<'a>(&'a self, network: &'a str, client: IpAddr) -> impl Iterator<Item = &'a Zone> {
        let id = self.clients.get(&client).map(|(_, id)| id.as_str());
        let others = self.zones.iter().filter(move |(name, zone)| {
            *name != network && id.is_some_and(|id| zone.members.contains_key(id))
        });
        self.zones.get(network).into_iter().chain(others.map(|(_, zone)| zone))
    }

    /// The addresses of a name; several take turns.
    pub fn addresses(&mut self, network: &str, client: IpAddr, name: &str) -> Option<Vec<IpAddr>> {
        let mut found = self.visible(network, client).find_map(|zone| zone.names.get(name)).cloned()?;
        self.turn = self.turn.wrapping_add(1);
        let shift = self.turn % found.len().max(1);
        found.rotate_left(shift);
        Some(found)
    }

    /// The name of an address.
    pub fn name(&self, network: &str, client: IpAddr, address: IpAddr) -> Option<&str> {
        let mut members = self.visible(network, client).flat_map(|zone| zone.members.values());
        let member = members.find(|member| member.addresses.contains(&address))?;
        member.names.first().map(String::as_str)
    }

    /// The servers that a client's other queries go to; `None` where nothing leaves the network.
    pub fn servers(&self, network: &str, client: IpAddr) -> Option<&[IpAddr]> {
        let zone = self.zones.get(network)?;
        if zone.server.internal {
            return None;
        }
        let own = self.clients.get(&client).and_then(|(network, id)| self.zones.get(network)?.members.get(id));
        Some(own.map_or(&[][..], |member| &member.servers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_files_and_stay_in_their_networks() {
        let dir = tempfile::tempdir().unwrap();
        let put = |network: &str, id: &str, name: &str, address: &str| {
            std::fs::create_dir_all(dir.path().join(network)).unwrap();
            let member = format!("{{\"names\":[\"{name}\"],\"addresses\":[\"{address}\"]}}");
            std::fs::write(dir.path().join(network).join(id), member).unwrap();
        };
        put("one", "a", "web", "10.1.0.2");
        put("two", "b", "db", "10.2.0.2");
        put("two", "a", "web", "10.2.0.3");
        put("three", "c", "cache", "10.3.0.2");
        let mut zones = Zones::default();
        zones.reload(dir.path(), "");
        let client = "10.1.0.2".parse().unwrap();
        assert!(zones.addresses("one", client, "db").is_some(), "also on network two");
        assert!(zones.addresses("one", client, "cache").is_none());
        assert!(zones.addresses("one", "10.1.0.9".parse().unwrap(), "db").is_none());
        put("one", "d", "web", "10.1.0.3");
        zones.reload(dir.path(), "d");
        let first = zones.addresses("one", client, "web").unwrap();
        let second = zones.addresses("one", client, "web").unwrap();
        assert!(first.len() == 2 && first[0] == second[1], "round robin");
        std::fs::remove_file(dir.path().join("one/a")).unwrap();
        zones.reload(dir.path(), "a");
        assert_eq!(zones.addresses("one", client, "web").unwrap(), ["10.1.0.3".parse::<IpAddr>().unwrap()]);
        std::fs::remove_dir_all(dir.path().join("one")).unwrap();
        zones.reload(dir.path(), "d");
        assert!(zones.addresses("one", client, "web").is_none());
>>>>>>> 4c7a594 (netctl: networks, attachments, firewall, names)
    }
}
