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
    }
}
