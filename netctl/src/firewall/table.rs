//! What our table says, rule by rule.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::batch::{Family, Hook, Map, Transaction};
use super::expression::{IIFNAME, OIFNAME, REGISTER, Rule, Verdict};
use super::{Isolation, Publish, Zone};
use crate::cidr::{Cidr, bits};

const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const STATE: u32 = 0;
const STATUS: u32 = 2;
const DESTINATION_WAS_CHANGED: u32 = 1 << 5;
/// Port 53.
const DNS: [u8; 2] = [0, 53];
const LOOPBACK: Cidr = Cidr { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 };
const LOOPBACK_V6: Cidr = Cidr { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 };
const MULTICAST: Cidr = Cidr { address: IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), prefix: 4 };

/// nft's numbers for its types, six bits each in a concatenation.
const PROTOCOL_AND_PORT: u32 = 12 << 6 | 13;

const fn address_type(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (7, 4),
        Family::V6 | Family::Bridge => (8, 16),
    }
}

/// `published`: protocol . port → address . port, for every address of the host.
const fn published(family: Family) -> Map {
    let (kind, length) = address_type(family);
    let (value_type, value) = (kind << 6 | 13, length + 4);
    Map { name: "published", key_type: PROTOCOL_AND_PORT, key: 8, value_type, value, id: 1 }
}

/// `published_at`: address . protocol . port → address . port, for one address of the host.
const fn published_at(family: Family) -> Map {
    let (kind, length) = address_type(family);
    let (value_type, value) = (kind << 6 | 13, length + 4);
    let key_type = kind << 12 | PROTOCOL_AND_PORT;
    Map { name: "published_at", key_type, key: length + 8, value_type, value, id: 2 }
}

/// Removes the table; adding it first makes that right where it does not exist.
pub fn remove(transaction: &mut Transaction, family: Family) {
    transaction.add_table(family);
    transaction.delete_table(family);
}

/// The table with its maps and empty chains.
pub fn create(transaction: &mut Transaction, family: Family) {
    let hook = |kind, number, priority| Some(Hook { kind, number, priority });
    transaction.add_table(family);
    transaction.add_map(family, published(family));
    transaction.add_map(family, published_at(family));
    for (name, hook) in [
        ("publish", None),
        // Before connection tracking: what is dropped here must not even make an entry.
        ("guard", hook("filter", 0, -300)),
        ("prerouting", hook("nat", 0, -100)),
        ("output", hook("nat", 3, -100)),
        ("postrouting", hook("nat", 4, 100)),
        ("forward", hook("filter", 2, 0)),
    ] {
        transaction.add_chain(family, name, hook);
    }
    for chain in ["publish", "output"] {
        transaction.flush_chain(family, chain);
    }
    transaction.add_rule(family, "output", &jump_to_publish());
    let (at, words) = if family == Family::V4 { (16, 1) } else { (24, 4) };
    let own_address = Rule::new().payload(1, at, words * 4, REGISTER).destination_port(REGISTER + words);
    let any_address = Rule::new().destination_port(REGISTER);
    for (rule, map) in [(own_address, published_at(family)), (any_address, published(family))] {
        let rule = rule.look_up(map.name, map.id).destination_nat(family.number(), REGISTER + words);
        transaction.add_rule(family, "publish", &rule);
    }
}

fn jump_to_publish() -> Rule {
    Rule::new().local_destination().verdict(Verdict::Jump("publish"))
}

/// Empties the chains that [`zones`] fills.
pub fn flush(transaction: &mut Transaction, family: Family) {
    for chain in ["guard", "prerouting", "postrouting", "forward"] {
        transaction.flush_chain(family, chain);
    }
}

/// The rules of the networks.
pub fn zones(transaction: &mut Transaction, family: Family, zones: &[Zone]) {
    let published = || Rule::new().connection(STATUS, DESTINATION_WAS_CHANGED);
    let mut add = |chain, rule: Rule| transaction.add_rule(family, chain, &rule);
    for zone in zones {
        if ![0, 53].contains(&zone.names_port) {
            for (chain, rule) in elsewhere(family, zone) {
                add(chain, rule);
            }
            continue;
        }
        for name_server in zone.names.iter().copied().filter(|address| family.has(*address)) {
            // A container that has published port 53 on all addresses must not get its neighbours' questions.
            let single = Cidr { address: name_server, prefix: bits(name_server) };
            let asked = Rule::new().interface(IIFNAME, true, &zone.bridge).address(false, true, single);
            add("prerouting", asked.payload(2, 2, 2, REGISTER).compare(true, &DNS).verdict(Verdict::Accept));
        }
    }
    add("prerouting", jump_to_publish());
    for zone in zones.iter().filter(|zone| zone.internal) {
        // First of all, so that no published port of another network is a way out either.
        for (own, other) in [(IIFNAME, OIFNAME), (OIFNAME, IIFNAME)] {
            let crossing =
                Rule::new().interface(own, true, &zone.bridge).interface(other, false, &zone.bridge);
            add("forward", crossing.verdict(Verdict::Drop));
        }
    }
    add("forward", Rule::new().connection(STATE, ESTABLISHED_OR_RELATED).verdict(Verdict::Accept));
    add("forward", published().verdict(Verdict::Accept));
    // The host's own connection to its loopback must leave with an address that the container can answer.
    let loopback = if family == Family::V4 { LOOPBACK } else { LOOPBACK_V6 };
    add("postrouting", published().address(true, true, loopback).masquerade());
    for zone in zones {
        let from = || Rule::new().interface(IIFNAME, true, &zone.bridge);
        let into = || Rule::new().interface(OIFNAME, true, &zone.bridge);
        if family == Family::V4 {
            // route_localnet, which publishing to 127.0.0.1 needs, would open the host's loopback services to
            // the containers (CVE-2020-8558).
            add("guard", from().address(false, true, LOOPBACK).verdict(Verdict::Drop));
        }
        let among = if zone.closed { Verdict::Drop } else { Verdict::Accept };
        add("forward", from().interface(OIFNAME, true, &zone.bridge).verdict(among));
        for other in zones.iter().filter(|other| other.bridge != zone.bridge && are_apart(zone, other)) {
            add("forward", into().interface(IIFNAME, true, &other.bridge).verdict(Verdict::Drop));
        }
        for interface in &zone.trusted {
            add("forward", into().interface(IIFNAME, true, interface).verdict(Verdict::Accept));
        }
        for partner in zone.partners.iter().copied().filter(|partner| family.has(partner.address)) {
            add("forward", into().address(true, true, partner).verdict(Verdict::Accept));
        }
        let nat = zone.nat(family);
        if !nat.routed && !zone.internal {
            add("forward", into().verdict(Verdict::Drop));
        }
        for subnet in zone.subnets.iter().copied().filter(|subnet| family.has(subnet.address)) {
            // A container that reaches a neighbour (or itself) through a published port: the answer has to come
            // back through the host, or it would arrive from an address that nobody asked.
            add(
                "postrouting",
                published().address(true, true, subnet).address(false, true, subnet).masquerade(),
            );
            if nat.masquerade && !zone.internal {
                let out = Rule::new().address(true, true, subnet).address(false, false, subnet);
                let out = if family == Family::V4 { out.address(false, false, MULTICAST) } else { out };
                let out = out.interface(OIFNAME, false, &zone.bridge);
                let hidden = match zone.hides_behind(family) {
                    Some(address) => out.source_nat(family.number(), address),
                    None => out.masquerade(),
                };
                add("postrouting", hidden);
            }
        }
    }
}

/// Questions on port 53 go to the port where names are answered.
fn elsewhere(family: Family, zone: &Zone) -> Vec<(&'static str, Rule)> {
    let mut rules = Vec::new();
    for name_server in zone.names.iter().copied().filter(|address| family.has(*address)) {
        let single = Cidr { address: name_server, prefix: bits(name_server) };
        for protocol in [6, 17] {
            for chain in ["prerouting", "output"] {
                let asked = Rule::new().address(false, true, single).protocol(protocol);
                let asked = asked.payload(2, 2, 2, REGISTER).compare(true, &DNS);
                rules.push((chain, asked.port_nat(family.number(), zone.names_port)));
            }
        }
    }
    rules
}

/// Whether the two keep away from each other, even where they are routed.
pub(super) fn are_apart(one: &Zone, other: &Zone) -> bool {
    match (one.isolation, other.isolation) {
        (Isolation::No, Isolation::No | Isolation::Some) | (Isolation::Some, Isolation::No) => false,
        (Isolation::Strict, _) | (_, Isolation::Strict) | (Isolation::Some, Isolation::Some) => true,
    }
}

/// Adds the ports of this family to the maps.
pub fn publish(transaction: &mut Transaction, family: Family, ports: &[Publish]) {
    let (any, at) = elements(family, ports);
    transaction.add_elements(family, published(family).name, &any);
    transaction.add_elements(family, published_at(family).name, &at);
}

/// Removes them.
pub fn withdraw(transaction: &mut Transaction, family: Family, ports: &[Publish]) {
    let (any, at) = elements(family, ports);
    transaction.delete_elements(family, published(family).name, &any);
    transaction.delete_elements(family, published_at(family).name, &at);
}

type Elements = Vec<(Vec<u8>, Vec<u8>)>;

fn elements(family: Family, ports: &[Publish]) -> (Elements, Elements) {
    let (mut any, mut at) = (Vec::new(), Vec::new());
    for port in ports.iter().filter(|port| family.has(port.to)) {
        // Every part of a concatenation is padded to four bytes.
        let [high, low] = port.host_port.to_be_bytes();
        let key = [port.protocol, 0, 0, 0, high, low, 0, 0];
        let [high, low] = port.to_port.to_be_bytes();
        let value = [&octets(port.to)[..], &[high, low, 0, 0]].concat();
        match port.host {
            Some(host) => at.push(([&octets(host)[..], &key].concat(), value)),
            None => any.push((key.to_vec(), value)),
        }
    }
    (any, at)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
