//! Published ports: of the bridge plugin itself, or as a plugin of its own behind any other (`portmap`).

use std::net::IpAddr;

use anyhow::Result;

use super::answer::Answer;
use super::config::{Config, Environment};
use super::failure::{CHECK_FAILED, INVALID_CONFIG, UNSUPPORTED_FIELD, fail};
use crate::firewall::{Publish, Zone, protocol_number};
use crate::guest::{self, Guest, Key};
use crate::state::State;

/// The ports that the runtime asks for, sent to the container's addresses.
///
/// # Errors
/// Numbers 2 and 7.
pub fn wanted(config: &Config, answer: &Answer) -> Result<Vec<Publish>> {
    let mut found = Vec::new();
    for mapping in config.runtime_config.port_mappings.iter().filter(|mapping| mapping.host_port > 0) {
        let name = if mapping.protocol.is_empty() { "tcp" } else { &mapping.protocol };
        let Some(protocol) = protocol_number(&name.to_ascii_lowercase()) else {
            fail!(INVALID_CONFIG, "port {}: unknown protocol {name:?}", mapping.host_port);
        };
        let host: Option<IpAddr> = match mapping.host_ip.as_str() {
            "" => None,
            text => match text.parse() {
                Ok(address) => Some(address),
                Err(_) => fail!(INVALID_CONFIG, "port {}: invalid hostIP {text:?}", mapping.host_port),
            },
        };
        for v4 in [true, false] {
            let to = answer.ips.iter().map(|ip| ip.address.address).find(|address| address.is_ipv4() == v4);
            let Some(to) = to.filter(|_| host.is_none_or(|host| host.is_ipv4() == v4)) else { continue };
            let host = host.filter(|host| !host.is_unspecified());
            let (host_port, to_port) = (mapping.host_port, mapping.container_port);
            found.push(Publish { host, protocol, host_port, to, to_port });
        }
    }
    Ok(found)
}

/// What we do not do of portmap's settings.
///
/// # Errors
/// Number 2, naming it.
pub fn check_config(config: &Config) -> Result<()> {
    if !config.conditions_v4.is_empty() || !config.conditions_v6.is_empty() {
        fail!(UNSUPPORTED_FIELD, "conditionsV4 and conditionsV6 are not supported");
    }
    let marks =
        [("markMasqBit", &config.mark_masq_bit), ("externalSetMarkChain", &config.external_set_mark_chain)];
    if let Some((key, _)) = marks.iter().find(|(_, value)| value.is_some()) {
        fail!(UNSUPPORTED_FIELD, "{key} is not supported: packets are masqueraded without a mark");
    }
    if let Some(key) = config.runtime_config.others.keys().next() {
        fail!(UNSUPPORTED_FIELD, "capability {key} is not supported by this plugin");
    }
    if config.snat == Some(false) {
        fail!(UNSUPPORTED_FIELD, "snat: false is not supported");
    }
    if config.backend == "iptables" || config.ip_masq_backend == "iptables" {
        fail!(UNSUPPORTED_FIELD, "backend iptables is not supported: the rules are in nftables");
    }
    Ok(())
}

fn key(config: &Config, environment: &Environment) -> Key {
    Key {
        network: config.name.clone(),
        container: environment.container.clone(),
        interface: format!("{}:portmap", environment.interface),
    }
}

/// ADD of the plugin of its own.
///
/// # Errors
/// As [`wanted`]; a port that is published already.
pub fn add(state: &State, config: &Config, environment: &Environment) -> Result<Answer> {
    check_config(config)?;
    let Some(previous) = &config.prev_result else {
        fail!(INVALID_CONFIG, "portmap: must be called as a chained plugin: no prevResult");
    };
    let answer = Answer::parse(previous)?;
    let ports = wanted(config, &answer)?;
    if ports.is_empty() {
        return Ok(answer);
    }
    let Some(host) = answer.interfaces.iter().find(|interface| interface.sandbox.is_empty()) else {
        fail!(INVALID_CONFIG, "portmap: prevResult names no interface of the host");
    };
    let subnets = answer.ips.iter().map(|ip| ip.address.subnet()).collect();
    let zone = Zone { bridge: host.name.clone(), subnets, routed: true, ..Zone::default() };
    crate::network::bridge::route_loopback(&host.name)?;
    let guest = Guest { version: 1, key: key(config, environment), zone: Some(zone), ports, station: None };
    if let Err(err) = guest::enter(state, &guest) {
        guest::leave(state, &guest.key)?;
        return Err(err);
    }
    Ok(answer)
}

/// DEL.
///
/// # Errors
/// The kernel's refusal.
pub fn del(state: &State, config: &Config, environment: &Environment) -> Result<()> {
    guest::leave(state, &key(config, environment))
}

/// CHECK.
///
/// # Errors
/// Number 101.
pub fn check(state: &State, config: &Config, environment: &Environment) -> Result<()> {
    let Some(previous) = &config.prev_result else {
        fail!(INVALID_CONFIG, "portmap: CHECK needs a prevResult");
    };
    let wanted = wanted(config, &Answer::parse(previous)?)?;
    let ports = guest::read(state, &key(config, environment))?.unwrap_or_default().ports;
    if ports != wanted {
        fail!(CHECK_FAILED, "the published ports of {} are not those asked for", environment.container);
    }
    Ok(())
}
