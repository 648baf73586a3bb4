//! One container's end on one network: addresses chosen, then the link made and configured.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::network::{Attachment, Endpoint};
use nix::errno::Errno;

use super::claim;
use super::namespace::Namespace;
use super::record::Record;
use super::request::mac_address;
use crate::cidr::Cidr;
use crate::netlink::link::{self, Mode, PortMode, Slice, Veth};
use crate::netlink::message::Batch;
use crate::netlink::socket::{Socket, errno};
use crate::network::{Network, bridge, definition::random};
use crate::state::State;

const DEFAULT_MTU: u32 = 1500;

/// Leases the addresses of a new endpoint and enters it in the record. Nothing but claims is made.
///
/// # Errors
/// `Busy` or `Usage` for addresses, `Exists` where the container is on that network.
pub fn plan(state: &State, record: &mut Record, network: &Network, wanted: &Attachment) -> Result<()> {
    if record.status.networks.contains_key(&network.name) {
        fault!(Exists, "{} is already on network {}", record.id, network.name);
    }
    let has_default_route = network.has_default_route()?;
    let mut endpoint = Endpoint {
        network_id: network.id.clone(),
        aliases: wanted.aliases.clone(),
        gw_priority: wanted.gw_priority,
        ..Endpoint::default()
    };
    for (v4, asked) in [(true, wanted.ip), (false, wanted.ip6)] {
        // `--ip` may hold either family.
        let asked = [asked, wanted.ip, wanted.ip6].into_iter().flatten().find(|ip| ip.is_ipv4() == v4);
        let subnet = network.subnets.iter().find(|subnet| subnet.subnet.address.is_ipv4() == v4);
        let Some(subnet) = subnet else {
            if let Some(address) = asked {
                fault!(
                    Usage,
                    "network {}: no configured subnet contains the address {address}",
                    network.name
                );
            }
            continue;
        };
        let address = claim::lease(state, network, subnet, &record.id, asked)?;
        let shown = network.on_wire(subnet).with(address).to_string();
        let gateway = subnet.gateway.filter(|_| !network.internal && has_default_route);
        if v4 {
            (endpoint.address, endpoint.gateway) = (shown, gateway);
        } else {
            (endpoint.address6, endpoint.gateway6) = (Some(shown), gateway);
        }
    }
    endpoint.mac = mac(wanted, &endpoint)?;
    endpoint.interface = match &wanted.interface {
        Some(name) => name.clone(),
        None => free_interface(record, network.interface_prefix()),
    };
    if record.status.networks.values().any(|other| other.interface == endpoint.interface) {
        fault!(Usage, "interface {} is named twice", endpoint.interface);
    }
    if network.is_bridge() {
        let suffix: String = random::<5>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        record.host_ends.insert(network.name.clone(), format!("veth{suffix}"));
    }
    record.enter(&network.name, endpoint);
    Ok(())
}

/// A MAC made from the IPv4 address: whoever gets the address next has the same one, so no neighbour's cache is wrong.
fn mac(wanted: &Attachment, endpoint: &Endpoint) -> Result<String> {
    let mac = match (&wanted.mac, endpoint.address.parse::<Cidr>().map(|cidr| cidr.address)) {
        (Some(text), _) => mac_address(text)?,
        (None, Ok(IpAddr::V4(address))) => {
            let [a, b, c, d] = address.octets();
            [2, 0x42, a, b, c, d]
        }
        _ => bridge::local_mac(&random()?),
    };
    Ok(mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

fn free_interface(record: &Record, prefix: &str) -> String {
    let taken = |name: &String| record.status.networks.values().any(|other| other.interface == *name);
    (0..).map(|number| format!("{prefix}{number}")).find(|name| !taken(name)).unwrap_or_default()
}

/// Makes the link of a planned endpoint and configures it inside.
///
/// # Errors
/// The kernel's refusal.
pub fn plug(host: &Socket, namespace: &Namespace, record: &Record, network: &Network) -> Result<()> {
    let endpoint = record.status.networks.get(&network.name).context("endpoint was not planned")?;
    let name = &endpoint.interface;
    if link::find(&namespace.inside, name)?.is_some() {
        fault!(Exists, "interface {name} already exists in the network namespace of {}", record.id);
    }
    let mac = mac_address(&endpoint.mac)?;
    let parent = bridge::ensure(host, network)?;
    let netns = std::os::fd::AsFd::as_fd(&namespace.file);
    let mut batch = Batch::new();
    match record.host_ends.get(&network.name) {
        Some(host_end) => {
            let mtu = match (network.mtu()?, network.driver.as_str()) {
                (Some(mtu), _) => mtu,
                (None, "overlay") => parent.mtu,
                (None, _) => DEFAULT_MTU,
            };
            let veth = Veth { host: host_end, inside: name, mac, mtu, bridge: parent.index };
            link::add_veth(&mut batch, veth, netns);
            // Hairpin, because where the br_netfilter module is loaded, a container that asks for its own published
            // port is answered on the bridge already, out of the port that it came in by. There, too, isolated ports
            // would cut off a neighbour's published port, and the packet filter keeps the containers apart.
            let isolated = !network.icc()? && !bridge::is_filtered(network);
            link::set_port(&mut batch, host_end, PortMode { hairpin: network.hairpin()?, isolated });
        }
        None => {
            let mode = network.slice_mode()?;
            // Ipvlans have the parent's address, all of them.
            let mac = Some(mac).filter(|_| matches!(mode, Mode::Macvlan(_)));
            let (mtu, broadcast_limit) = (network.mtu()?, network.broadcast_limit()?);
            let slice = Slice { parent: parent.index, inside: name, mac, mtu, mode, broadcast_limit };
            link::add_slice(&mut batch, slice, netns);
        }
    }
    if let Err(err) = host.run(&batch) {
        if !record.host_ends.contains_key(&network.name) && errno(&err) == Some(Errno::EOPNOTSUPP) {
            fault!(Unsupported, "network {}: this kernel has no {} links", network.name, network.driver);
        }
        return Err(err).with_context(|| format!("network {}", network.name));
    }
    if let (Some(vlan), Some(host_end)) = (network.vlan()?, record.host_ends.get(&network.name)) {
        let port = link::find(host, host_end)?.with_context(|| format!("{host_end} is gone"))?;
        let mut batch = Batch::new();
        link::set_vlan(&mut batch, port.index, vlan, false);
        host.run(&batch).with_context(|| format!("network {}", network.name))?;
    }
    configure(namespace, record, network, endpoint)
}

fn configure(namespace: &Namespace, record: &Record, network: &Network, endpoint: &Endpoint) -> Result<()> {
    let inside = link::find(&namespace.inside, &endpoint.interface)?
        .with_context(|| format!("interface {} is gone", endpoint.interface))?;
    let mut batch = Batch::new();
    for address in [Some(&endpoint.address), endpoint.address6.as_ref()].into_iter().flatten() {
        if !address.is_empty() {
            link::add_address(&mut batch, inside.index, address.parse()?);
        }
    }
    // The macvlan is made down: with its addresses it would else announce itself before it is configured.
    link::set_up(&mut batch, inside.index, &endpoint.interface);
    let earlier: Vec<&Endpoint> =
        record.endpoints().take_while(|(name, _)| *name != network.name).map(|(_, other)| other).collect();
    if let Some(gateway) = endpoint.gateway.filter(|_| earlier.iter().all(|other| other.gateway.is_none())) {
        link::add_default_route(&mut batch, inside.index, gateway, network.metric()?);
    }
    if let Some(gateway) = endpoint.gateway6.filter(|_| earlier.iter().all(|other| other.gateway6.is_none()))
    {
        link::add_default_route(&mut batch, inside.index, gateway, network.metric()?);
    }
    namespace.inside.run(&batch).with_context(|| format!("configure {} of {}", endpoint.interface, record.id))
}

/// Gives the addresses of an endpoint back.
///
/// # Errors
/// The file system's.
pub fn give_back(state: &State, id: &str, network: &str, endpoint: &Endpoint) -> Result<()> {
    for address in [Some(&endpoint.address), endpoint.address6.as_ref()].into_iter().flatten() {
        if let Ok(cidr) = address.parse::<Cidr>() {
            claim::give_back(state, network, id, cidr.address)?;
        }
    }
    Ok(())
}
