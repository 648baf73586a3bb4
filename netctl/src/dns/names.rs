//! All zones turned round for look-ups. A container on several networks sees the names of all of them, whichever of
//! its servers it asks: its resolver asks the second only where the first is silent.

use std::collections::HashMap;
use std::net::IpAddr;

use super::zone::Zone;

/// Everything that can be answered.
#[derive(Debug, Default)]
pub struct Names {
    zones: Vec<(Zone, HashMap<String, Vec<IpAddr>>)>,
    /// Zone and entry of each address.
    members: HashMap<IpAddr, Vec<(usize, usize)>>,
    /// The same of each container.
    containers: HashMap<String, Vec<(usize, usize)>>,
    /// Names may end in this domain; those that do are nobody else's.
    domain: &'static str,
    /// Whom the host asks.
    pub host: Vec<IpAddr>,
}

impl Names {
    /// Turns these zones round. `domain` is empty where names have none.
    pub fn new(zones: Vec<Zone>, domain: &'static str, host: Vec<IpAddr>) -> Self {
        let mut members: HashMap<IpAddr, Vec<(usize, usize)>> = HashMap::new();
        let mut containers: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        let mut turned = Vec::with_capacity(zones.len());
        for (place, mut zone) in zones.into_iter().enumerate() {
            let mut by_name: HashMap<String, Vec<IpAddr>> = HashMap::new();
            for (number, entry) in zone.entries.iter().enumerate() {
                for name in &entry.names {
                    by_name.entry(name.to_ascii_lowercase()).or_default().extend(&entry.addresses);
                }
                if !entry.id.is_empty() {
                    containers.entry(entry.id.clone()).or_default().push((place, number));
                }
                for address in &entry.addresses {
                    members.entry(*address).or_default().push((place, number));
                }
            }
            for addresses in by_name.values_mut() {
                addresses.shrink_to_fit();
            }
            // Only the first is asked for, by its address.
            for entry in &mut zone.entries {
                entry.names.truncate(1);
                entry.names.shrink_to_fit();
            }
            turned.push((zone, by_name));
        }
        Self { zones: turned, members, containers, domain, host }
    }

    /// Where to listen: addresses, each with its zone.
    pub fn listen(&self) -> impl Iterator<Item = (IpAddr, usize)> {
        let zones = self.zones.iter().enumerate();
        zones.flat_map(|(place, (zone, _))| zone.listen.iter().map(move |address| (*address, place)))
    }

    /// Whether there is no zone at all.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty()
    }

    /// What `client` sees who asks the server of `zone`.
    pub fn view(&self, zone: usize, client: IpAddr) -> View<'_> {
        // An address that happens to exist on another network, too, is somebody else's.
        let here = self.members.get(&client).and_then(|all| all.iter().find(|(place, _)| *place == zone));
        let own = here.and_then(|(_, entry)| self.containers.get(&self.zones[zone].0.entries[*entry].id));
        View { names: self, zone, own: own.map_or(&[], Vec::as_slice) }
    }
}

/// See [`Names::view`].
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    names: &'a Names,
    zone: usize,
    /// The client's places.
    own: &'a [(usize, usize)],
}

impl<'a> View<'a> {
    /// The zones, the asked one first.
    fn places(self) -> impl Iterator<Item = usize> {
        let others = self.own.iter().map(|(place, _)| *place).filter(move |place| *place != self.zone);
        std::iter::once(self.zone).chain(others)
    }

    fn zones(self) -> impl Iterator<Item = &'a (Zone, HashMap<String, Vec<IpAddr>>)> {
        self.places().filter_map(move |place| self.names.zones.get(place))
    }

    /// The name without our domain, and whether it was there.
    fn stripped(self, name: &str) -> (&str, bool) {
        let bare = name.strip_suffix(self.names.domain).and_then(|name| name.strip_suffix('.'));
        match bare.filter(|_| !self.names.domain.is_empty()) {
            Some(bare) => (bare, true),
            None => (name, false),
        }
    }

    /// The addresses of a name in lower case without a final dot; `None` where no container has it.
    pub fn addresses(self, name: &str) -> Option<Vec<IpAddr>> {
        let (name, _) = self.stripped(name);
        let mut found: Option<Vec<IpAddr>> = None;
        for (_, by_name) in self.zones() {
            if let Some(addresses) = by_name.get(name) {
                found.get_or_insert_default().extend(addresses);
            }
        }
        found
    }

    /// The name of the container with this address.
    pub fn name_of(self, address: IpAddr) -> Option<&'a str> {
        let places = self.names.members.get(&address)?;
        let (place, entry) = places.iter().find(|(place, _)| self.places().any(|seen| seen == *place))?;
        self.names.zones[*place].0.entries[*entry].names.first().map(String::as_str)
    }

    /// Whether nobody else may be asked about that name.
    pub fn is_ours(self, name: &str) -> bool {
        self.stripped(name).1 || self.zones().all(|(zone, _)| zone.internal)
    }

    /// Whom to ask for other names.
    pub fn upstream(self) -> &'a [IpAddr] {
        let entries = self.own.iter().map(|(place, entry)| &self.names.zones[*place].0.entries[*entry]);
        let own = entries.map(|entry| entry.upstream.as_slice());
        let networks =
            self.zones().filter(|(zone, _)| !zone.internal).map(|(zone, _)| zone.upstream.as_slice());
        own.chain(networks).find(|servers| !servers.is_empty()).unwrap_or(&self.names.host)
    }
}
