//! What one network's name server knows: written by `netctl up` and `down`, read by the server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::network::peers;

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
    /// Containers of the same network on other hosts: answered, but nobody to serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<Entry>,
    /// The shared list where the names of other hosts stand, and the network's subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<Shared>,
}

/// Where to read what other hosts say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// A file or a directory of files.
    pub path: PathBuf,
    /// What tells containers' addresses from hosts'.
    pub subnets: Vec<Cidr>,
}

impl Zone {
    /// Reads the names on other hosts anew. Those of this host are its own business; a list that cannot be read now
    /// leaves what was known.
    pub fn look_elsewhere(&mut self) {
        let Some(shared) = &self.shared else { return };
        let Ok(peers) = peers::read_path(&shared.path, &shared.subnets) else { return };
        let own: Vec<IpAddr> = self.entries.iter().flat_map(|entry| entry.addresses.clone()).collect();
        let others = peers.names.into_iter().filter(|(_, address, _)| !own.contains(address));
        let entry = |(_, address, names)| Entry { names, addresses: vec![address], ..Entry::default() };
        self.elsewhere = others.map(entry).collect();
    }
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
    elsewhere: HashMap<IpAddr, String>,
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
        let mut elsewhere = HashMap::new();
        for entry in &zone.elsewhere {
            for name in &entry.names {
                by_name.entry(name.to_ascii_lowercase()).or_default().extend(&entry.addresses);
            }
            let first = entry.names.first();
            elsewhere.extend(entry.addresses.iter().filter_map(|address| Some((*address, first?.clone()))));
        }
        Self { zone, elsewhere, by_name, by_address }
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
        match self.by_address.get(&address) {
            Some(position) => self.zone.entries[*position].names.first().map(String::as_str),
            None => self.elsewhere.get(&address).map(String::as_str),
        }
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
    }
}
