//! A network's bridge: there while the network has members.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;

use super::{Network, definition::random, overlay};
use crate::netlink::link::{self, Link, NewBridge};
use crate::netlink::message::Batch;
use crate::netlink::route;
use crate::netlink::socket::{Socket, errno};

/// On links that go with their last user.
const NOTE: &str = "bulkhead";

/// The bridge of `network` with its gateway addresses, made if it is missing (macvlan, ipvlan: the parent).
///
/// # Errors
/// The kernel's refusal; a link of that name that is no bridge of ours shows as an address that cannot be added.
pub fn ensure(host: &Socket, network: &Network) -> Result<Link> {
    let link = match link::find(host, &network.interface)? {
        Some(link) => link,
        None if network.is_bridge() => make(host, network)?,
        None => make_tagged(host, network)?,
    };
    if network.driver == "overlay" {
        // Always: a crash may have come between, and the list of hosts may have changed.
        overlay::ensure(host, network, &link)?;
    }
    Ok(link)
}

/// The parent and the VLAN that a name like `eth0.50` stands for.
pub fn tagged(name: &str) -> Option<(&str, u16)> {
    let (parent, vlan) = name.rsplit_once('.')?;
    Some((parent, vlan.parse().ok().filter(|vlan| (1..=4094).contains(vlan))?))
}

/// The parent of macvlans is missing: where its name says which VLAN of which link it is, it is made.
fn make_tagged(host: &Socket, network: &Network) -> Result<Link> {
    let (name, interface) = (&network.name, &network.interface);
    let found = tagged(interface).and_then(|(parent, vlan)| Some((link::find(host, parent).ok()??, vlan)));
    let Some((parent, vlan)) = found else { fault!(NotFound, "network {name}: no interface {interface}") };
    let mut batch = Batch::new();
    link::add_tagged(&mut batch, interface, (parent.index, vlan), NOTE);
    match host.run(&batch) {
        Err(err) if errno(&err) == Some(Errno::EOPNOTSUPP) => {
            fault!(Unsupported, "network {name}: this kernel has no VLAN links for {interface} (8021q)")
        }
        other => other.with_context(|| format!("network {name}"))?,
    }
    link::find(host, interface)?.with_context(|| format!("network {name}: {interface} is gone"))
}

fn make(host: &Socket, network: &Network) -> Result<Link> {
    let mtu = match (network.mtu()?, network.driver.as_str()) {
        (None, "overlay") => Some(overlay::mtu(host, network)?),
        (asked, _) => asked,
    };
    let mut batch = Batch::new();
    let new = NewBridge { mac: local_mac(&random()?), mtu, filters_vlans: network.vlan()?.is_some() };
    link::add_bridge(&mut batch, &network.interface, new);
    if let Err(err) = host.run(&batch) {
        if network.vlan()?.is_some() && errno(&err) == Some(Errno::EOPNOTSUPP) {
            fault!(Unsupported, "network {}: {NO_VLANS}", network.name);
        }
        return Err(err).with_context(|| format!("network {}", network.name));
    }
    let made = link::find(host, &network.interface)?;
    let link = made.with_context(|| format!("network {}: bridge is gone", network.name))?;
    if let Err(err) = dress(host, network, &link).and_then(|()| forward(network)) {
        let _ = link::remove(host, &network.interface);
        return Err(err).with_context(|| format!("network {}", network.name));
    }
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
    if let Some(vrf) = network.option("vrf") {
        match link::find(host, vrf)? {
            Some(master) if master.kind == "vrf" => {
                // Before the addresses: the change of tables would take IPv6's away.
                link::set_master(&mut batch, &network.interface, master.index);
            }
            _ => fault!(NotFound, "no vrf {vrf}"),
        }
    }
    if let Some(vlan) = network.vlan()? {
        link::set_vlan(&mut batch, link.index, vlan, true);
    }
    link::set_up(&mut batch, link.index, &network.interface);
    let addressed = network.gateways();
    for subnet in &network.subnets {
        if let Some(gateway) = subnet.gateway.filter(|gateway| addressed.contains(gateway)) {
            link::add_address(&mut batch, link.index, network.on_wire(subnet).with(gateway));
        }
    }
    if addressed.iter().any(IpAddr::is_ipv6) {
        route::accept_loopback_v6(&mut batch, link.index);
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
    address(host, network, &link)?;
    Ok(link)
}

/// Brings a link up with those of the network's gateway addresses that it does not have yet.
///
/// # Errors
/// The kernel's refusal.
pub fn address(host: &Socket, network: &Network, link: &Link) -> Result<()> {
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
    Ok(())
}

/// Why a bridge does not tell VLANs apart.
pub const NO_VLANS: &str = "this kernel's bridges have no VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)";

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
///
/// # Errors
/// The kernel's refusal.
pub fn switch(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let shown = || format!("set {}", path.display());
    if fs::read_to_string(&path).with_context(shown)?.trim() != value {
        fs::write(&path, value).with_context(shown)?;
    }
    Ok(())
}

/// Whether packets that only cross a bridge go through the packet filter, too (br_netfilter), for all of the network's
/// families. Then the filter sends them on inside the bridge, past the host.
pub fn is_filtered(network: &Network) -> bool {
    let on = |name: &str| {
        fs::read_to_string(Path::new("/proc/sys/net/bridge").join(name)).is_ok_and(|text| text.trim() == "1")
    };
    network.subnets.iter().all(|subnet| match subnet.subnet.address {
        IpAddr::V4(_) => on("bridge-nf-call-iptables"),
        IpAddr::V6(_) => on("bridge-nf-call-ip6tables"),
    })
}

/// Removes the bridge of a network that has no members any more. A parent of macvlans is the administrator's and stays,
/// unless we made it and no other network `shares` it.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(host: &Socket, network: &Network, shares: bool) -> Result<()> {
    if !network.is_bridge() && !shares && tagged(&network.interface).is_some() {
        let link = link::find(host, &network.interface)?;
        if link.is_some_and(|link| link.kind == "vlan" && link.alias == NOTE) {
            link::remove(host, &network.interface).with_context(|| format!("network {}", network.name))?;
        }
    }
    if network.driver == "overlay" {
        overlay::remove(host, network)?;
    }
    if network.is_bridge() {
        link::remove(host, &network.interface).with_context(|| format!("network {}", network.name))?;
    }
    Ok(())
}

/// A locally administered unicast MAC address.
pub fn local_mac(random: &[u8; 6]) -> [u8; 6] {
    let mut mac = *random;
    mac[0] = mac[0] & 0xfc | 0x02;
    mac
}
