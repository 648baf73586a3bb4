//! A network's bridge: there while the network has members.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::{Network, definition::random};
use crate::firewall::{Filter, Zone};
use crate::guest;
use crate::netlink::link::{self, Link};
use crate::netlink::message::Batch;
use crate::netlink::route;
use crate::netlink::socket::Socket;
use crate::state::State;

/// The bridge of `network` with its gateway addresses, made if it is missing (macvlan: the parent).
///
/// # Errors
/// The kernel's refusal; a link of that name that is no bridge of ours shows as an address that cannot be added.
pub fn ensure(host: &Socket, network: &Network) -> Result<Link> {
    if let Some(link) = link::find(host, &network.interface)? {
        return Ok(link);
    }
    if network.driver != "bridge" {
        fault!(NotFound, "network {}: no interface {}", network.name, network.interface);
    }
    let mut batch = Batch::new();
    link::add_bridge(&mut batch, &network.interface, local_mac(&random()?), network.mtu()?);
    host.run(&batch).with_context(|| format!("network {}", network.name))?;
    let made = link::find(host, &network.interface)?;
    let link = made.with_context(|| format!("network {}: bridge is gone", network.name))?;
    if let Err(err) = dress(host, network, &link) {
        let _ = link::remove(host, &network.interface);
        return Err(err).with_context(|| format!("network {}", network.name));
    }
    forward(network)?;
    Ok(link)
}

/// Brings a new bridge up with its addresses.
fn dress(host: &Socket, network: &Network, link: &Link) -> Result<()> {
    if network.subnets.iter().any(|subnet| subnet.subnet.address.is_ipv6()) {
        // Before it is up: while the kernel looks for duplicates of a link-local address that only we can have, it
        // asks no neighbour on behalf of others (br_netfilter), and the first seconds of published ports are lost.
        switch(&format!("net/ipv6/conf/{}/accept_dad", network.interface), "0")?;
    }
    let mut batch = Batch::new();
    link::set_up(&mut batch, link.index, &network.interface);
    for subnet in &network.subnets {
        if let Some(gateway) = subnet.gateway {
            link::add_address(&mut batch, link.index, subnet.subnet.with(gateway));
        }
    }
    host.run(&batch)
}

/// The bridge of a guest's network, made if it is missing, with the gateway addresses that are missing. Bridges of
/// others stay when their last container leaves.
///
/// # Errors
/// The kernel's refusal, `WrongState` for a link of that name that is no bridge.
pub fn ensure_addressed(host: &Socket, network: &Network) -> Result<Link> {
    let link = ensure(host, network)?;
    if link.kind != "bridge" {
        fault!(WrongState, "{} already exists but is not a bridge", network.interface);
    }
    let mut batch = Batch::new();
    link::set_up(&mut batch, link.index, &network.interface);
    host.run(&batch)?;
    let present = route::addresses(host, link.index)?;
    for subnet in &network.subnets {
        let Some(gateway) =
            subnet.gateway.filter(|gateway| !present.iter().any(|has| has.address == *gateway))
        else {
            continue;
        };
        let mut batch = Batch::new();
        link::add_address(&mut batch, link.index, subnet.subnet.with(gateway));
        host.run(&batch).with_context(|| format!("bridge {}", network.interface))?;
    }
    if network.subnets.iter().any(|subnet| subnet.gateway.is_some()) {
        forward(network)?;
    }
    Ok(link)
}

/// What must be switched on in this namespace for packets to pass from and to the bridge.
fn forward(network: &Network) -> Result<()> {
    for subnet in &network.subnets {
        match subnet.subnet.address {
            IpAddr::V4(_) => {
                switch("net/ipv4/ip_forward", "1")?;
                route_loopback(&network.interface)?;
            }
            IpAddr::V6(_) => switch("net/ipv6/conf/all/forwarding", "1")?,
        }
    }
    Ok(())
}

/// Lets the host's own connections to 127.0.0.1 go to containers. Without it the kernel drops what comes back; the
/// firewall's guard chain keeps the containers out.
///
/// # Errors
/// No such interface.
pub fn route_loopback(interface: &str) -> Result<()> {
    switch(&format!("net/ipv4/conf/{interface}/route_localnet"), "1")
}

/// Writes a sysctl of the current network namespace unless it has that value already.
fn switch(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let shown = || format!("set {}", path.display());
    if fs::read_to_string(&path).with_context(shown)?.trim() != value {
        fs::write(&path, value).with_context(shown)?;
    }
    Ok(())
}

/// Removes the bridge of a network that has no members any more. A parent of macvlans is the administrator's and stays.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(host: &Socket, network: &Network) -> Result<()> {
    if network.driver == "bridge" {
        link::remove(host, &network.interface).with_context(|| format!("network {}", network.name))?;
    }
    Ok(())
}

/// What the firewall has to know of all networks that have members now.
///
/// # Errors
/// An unreadable definition.
pub fn zones(state: &State) -> Result<Vec<Zone>> {
    let mut zones = Vec::new();
    for name in state.live()? {
        let network = super::find(state, &name)?;
        if network.driver == "bridge" {
            zones.push(network.zone()?);
        }
    }
    for zone in guest::zones(state)? {
        match zones.iter_mut().find(|known| known.bridge == zone.bridge) {
            Some(known) => known.merge(&zone),
            None => zones.push(zone),
        }
    }
    Ok(zones)
}

/// Writes the networks' part of the firewall.
///
/// # Errors
/// The kernel's refusal.
pub fn refresh(state: &State, filter: &Filter) -> Result<()> {
    filter.set_zones(&zones(state)?)
}

/// A locally administered unicast MAC address.
pub fn local_mac(random: &[u8; 6]) -> [u8; 6] {
    let mut mac = *random;
    mac[0] = mac[0] & 0xfc | 0x02;
    mac
}
