//! One network on several hosts: each has a bridge with a range of its own, joined by VXLAN or GRE, or by routes.
//!
//! No daemon and no agreement at run time: who the hosts are is read from the list (see [`super::peers`]) whenever a
//! container comes, and by `netctl reload`.

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use std::net::IpAddr;

use super::Network;
use super::peers::{self, Backend, Peer};
use crate::cidr::Cidr;
use crate::netlink::link::{self, Link, PortMode};
use crate::netlink::message::Batch;
use crate::netlink::route::{self, Fate};
use crate::netlink::socket::{Socket, errno};
use crate::netlink::tunnel::{self, Gre, Vxlan};

/// VXLAN's UDP port (RFC 7348).
const PORT: u32 = 4789;

/// Marks our routes to other hosts' ranges among all others (`RTPROT_…`; this number is free in rt_protos).
pub const PROTOCOL: u8 = 143;

/// What a frame grows by on its way.
const fn overhead(backend: Backend, v4: bool) -> u32 {
    match (backend, v4) {
        (Backend::Vxlan, true) => 50,
        (Backend::Vxlan, false) => 70,
        (Backend::Gre, true) => 42,
        (Backend::Gre, false) => 62,
        (Backend::Routes, _) => 0,
    }
}

/// The MTU inside: what the interface with this host's address carries, less what the tunnel adds.
///
/// # Errors
/// As [`peers::local`].
pub fn mtu(host: &Socket, network: &Network) -> Result<u32> {
    let backend = network.backend()?;
    let local = peers::local(network, &peers::read(network)?, host)?;
    let holder = route::own(host)?.into_iter().find(|(_, cidr)| cidr.address == local);
    let carried = match holder {
        Some((index, _)) => link::find_index(host, index)?.map_or(1500, |link| link.mtu),
        None => 1500,
    };
    // Loopback's, for example, is more than any host far away takes.
    Ok(carried.min(9000).saturating_sub(overhead(backend, local.is_ipv4())).max(576))
}

/// The number that all hosts give the network: the option's, or one made from its name.
///
/// # Errors
/// `Usage` for the option.
pub fn identifier(network: &Network) -> Result<u32> {
    if let Some(id) = network.number("vxlan-id", 1, 0xff_ffff)? {
        return Ok(id);
    }
    // FNV-1a, folded to 24 bits: the same on every host and in every version.
    let hash = network
        .name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    Ok((hash >> 24 ^ hash & 0xff_ffff).max(1))
}

/// Joins the bridge with the other hosts as they are listed now. Idempotent, and right after a crash or after somebody
/// removed links or routes.
///
/// # Errors
/// A wrong list; the kernel's refusal, `Unsupported` where it lacks the kind of link.
pub fn ensure(host: &Socket, network: &Network, bridge: &Link) -> Result<()> {
    let (local, others) = peers::others(network, host)?;
    match network.backend()? {
        Backend::Vxlan => vxlan(host, network, bridge, local, &others),
        Backend::Gre => gre(host, network, bridge, local, &others),
        Backend::Routes => routes(host, network, bridge, &others),
    }
    .with_context(|| format!("network {}", network.name))
}

fn vxlan_name(network: &Network) -> String {
    format!("vx-{}", network.id.get(..12).unwrap_or_default())
}

fn vxlan(host: &Socket, network: &Network, bridge: &Link, local: IpAddr, others: &[Peer]) -> Result<()> {
    let name = vxlan_name(network);
    let link = match link::find(host, &name)? {
        Some(link) if link.master == bridge.index => link,
        other => {
            if other.is_some() {
                // Of a bridge that has gone.
                link::remove(host, &name)?;
            }
            let port = network.number("port", 1, 65535)?.unwrap_or(PORT);
            let (id, port) = (identifier(network)?, u16::try_from(port).unwrap_or(4789));
            let mut batch = Batch::new();
            let made = Vxlan { name: &name, id, local, port, mtu: bridge.mtu, bridge: bridge.index };
            tunnel::add_vxlan(&mut batch, made);
            link::set_port(&mut batch, &name, PortMode { hairpin: false, isolated: !network.icc()? });
            make(host, &batch, "vxlan").with_context(|| format!("VXLAN identifier {id}, port {port}"))?;
            link::find(host, &name)?.context("the link is gone")?
        }
    };
    let now = tunnel::floods(host, link.index)?;
    let mut batch = Batch::new();
    for peer in others.iter().filter(|peer| !now.contains(&peer.address)) {
        tunnel::add_flood(&mut batch, link.index, peer.address);
    }
    for gone in now.iter().filter(|now| !others.iter().any(|peer| peer.address == **now)) {
        tunnel::remove_flood(&mut batch, link.index, *gone);
    }
    if batch.len() > 0 { host.run(&batch) } else { Ok(()) }
}

/// A tunnel's name: at most 15 characters, the same for the same network and host.
fn gre_name(network: &Network, remote: IpAddr) -> String {
    let hash = remote
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{}{hash:08x}", gre_prefix(network))
}

fn gre_prefix(network: &Network) -> String {
    format!("g{}", network.id.get(..6).unwrap_or_default())
}

fn gre(host: &Socket, network: &Network, bridge: &Link, local: IpAddr, others: &[Peer]) -> Result<()> {
    let present = link::ports(host, bridge.index)?;
    let wanted: Vec<(String, IpAddr)> =
        others.iter().map(|peer| (gre_name(network, peer.address), peer.address)).collect();
    for (name, remote) in &wanted {
        if present.contains(name) {
            continue;
        }
        link::remove(host, name)?;
        let mut batch = Batch::new();
        let (key, mtu) = (identifier(network)?, bridge.mtu);
        tunnel::add_gre(&mut batch, Gre { name, key, local, remote: *remote, mtu, bridge: bridge.index });
        // Every host has a tunnel to every other: none may send on what another brought, or frames go in circles.
        link::set_port(&mut batch, name, PortMode { hairpin: false, isolated: true });
        make(host, &batch, "gretap")?;
    }
    let prefix = gre_prefix(network);
    for name in present.iter().filter(|name| name.starts_with(&prefix)) {
        if !wanted.iter().any(|(wanted, _)| wanted == name) {
            link::remove(host, name)?;
        }
    }
    Ok(())
}

fn make(host: &Socket, batch: &Batch, kind: &str) -> Result<()> {
    match host.run(batch) {
        Err(err) if errno(&err) == Some(Errno::EOPNOTSUPP) => {
            fault!(Unsupported, "this kernel has no {kind} links")
        }
        other => other,
    }
}

fn routes(host: &Socket, network: &Network, bridge: &Link, others: &[Peer]) -> Result<()> {
    let wanted: Vec<(Cidr, IpAddr)> = others
        .iter()
        .flat_map(|peer| peer.ranges.iter().map(|range| (*range, peer.address)))
        .filter(|(range, by)| range.address.is_ipv4() == by.is_ipv4())
        .collect();
    let ours = |cidr: Cidr| network.subnets.iter().any(|subnet| subnet.subnet.contains(cidr.first()));
    let present: Vec<(Cidr, IpAddr)> = route::by_protocol(host, PROTOCOL)?
        .into_iter()
        .filter(|(destination, _)| ours(*destination))
        .collect();
    let mut batch = Batch::new();
    for (destination, by) in present.iter().filter(|route| !wanted.contains(route)) {
        route::remove(&mut batch, *destination, Some(*by), Fate::Unicast);
    }
    for (destination, by) in wanted.iter().filter(|route| !present.contains(route)) {
        route::add_by(&mut batch, *destination, *by, PROTOCOL);
    }
    if batch.len() == 0 {
        return Ok(());
    }
    match host.run(&batch) {
        Err(err) if errno(&err) == Some(Errno::ENETUNREACH) => {
            fault!(
                Unsupported,
                "{err}: hosts that route to each other (bridge {}) share a network",
                bridge.index
            )
        }
        other => other,
    }
}

/// Removes what [`ensure`] made; before the bridge, whose removal leaves its ports behind.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(host: &Socket, network: &Network) -> Result<()> {
    match network.backend()? {
        Backend::Vxlan => link::remove(host, &vxlan_name(network)),
        Backend::Gre => {
            let Some(bridge) = link::find(host, &network.interface)? else { return Ok(()) };
            let prefix = gre_prefix(network);
            for name in link::ports(host, bridge.index)?.iter().filter(|name| name.starts_with(&prefix)) {
                link::remove(host, name)?;
            }
            Ok(())
        }
        Backend::Routes => {
            let ours = |cidr: Cidr| network.subnets.iter().any(|subnet| subnet.subnet.contains(cidr.first()));
            let mut batch = Batch::new();
            for (destination, by) in route::by_protocol(host, PROTOCOL)? {
                if ours(destination) {
                    route::remove(&mut batch, destination, Some(by), Fate::Unicast);
                }
            }
            if batch.len() > 0 { host.run(&batch) } else { Ok(()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_makes_the_same_identifier() {
        let number = |name: &str| identifier(&Network::new(name).unwrap()).unwrap();
        assert_eq!(number("back"), number("back"));
        assert_ne!(number("back"), number("front"));
        assert!((1..=0xff_ffff).contains(&number("a")));
        let name = gre_name(&Network::new("n").unwrap(), "192.168.7.2".parse().unwrap());
        assert_eq!(name.len(), 15);
    }
}
