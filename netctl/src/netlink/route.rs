//! Routes beside the default ones, and what a namespace has of addresses and routes.

use std::net::IpAddr;

use anyhow::Result;
use nix::errno::Errno;

use super::link::family_bytes;
use super::message::{APPEND, Batch, CREATE, DUMP, EXCL, REQUEST, attributes};
use super::socket::{Socket, errno};
use crate::cidr::Cidr;

const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

/// One route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Where to; prefix 0 is the default route.
    pub destination: Cidr,
    /// By whom; `None` is directly.
    pub gateway: Option<IpAddr>,
    /// Interface index; 0 for the one that the gateway is on.
    pub index: u32,
    /// Metric; 0 is the kernel's choice.
    pub metric: u32,
    /// Path MTU; 0 for the link's.
    pub mtu: u32,
    /// Advertised segment size; 0 for the MTU's.
    pub advmss: u32,
    /// Routing table; 0 is main.
    pub table: u32,
    /// `RT_SCOPE_…`; `None` follows from the gateway.
    pub scope: Option<u8>,
    /// What becomes of packets.
    pub fate: Fate,
}

/// What a route does with packets, by the kernel's number (`RTN_…`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// They go on.
    #[default]
    Unicast = 1,
    /// They are lost in silence.
    Blackhole = 6,
    /// The sender is told that there is no way.
    Unreachable = 7,
    /// The sender is told that it may not.
    Prohibit = 8,
}

impl Fate {
    /// As `ip route` calls them.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "unicast" | "" => Self::Unicast,
            "blackhole" => Self::Blackhole,
            "unreachable" => Self::Unreachable,
            "prohibit" => Self::Prohibit,
            _ => return None,
        })
    }
}

impl Route {
    /// A plain route.
    pub const fn new(destination: Cidr, gateway: Option<IpAddr>, index: u32) -> Self {
        let fate = Fate::Unicast;
        Self { destination, gateway, index, metric: 0, mtu: 0, advmss: 0, table: 0, scope: None, fate }
    }
}

/// Adds a route; one to the same destination with the same metric is refused.
pub fn add(batch: &mut Batch, route: &Route) {
    add_with(batch, route, EXCL);
}

/// Adds a route behind those to the same destination with the same metric.
pub fn append(batch: &mut Batch, route: &Route) {
    // IPv6 knows no order among equals: without EXCL it shares the traffic.
    add_with(batch, route, if route.destination.address.is_ipv4() { APPEND } else { 0 });
}

fn add_with(batch: &mut Batch, route: &Route, flags: u16) {
    const MAIN: u8 = 254;
    const STATIC: u8 = 4;
    const LINK: u8 = 253;
    let (family, destination) = family_bytes(route.destination.first());
    let is_global = route.gateway.is_some() || route.fate != Fate::Unicast;
    let scope = route.scope.unwrap_or(if is_global { 0 } else { LINK });
    let fate = route.fate as u8;
    let header = [family, route.destination.prefix, 0, 0, MAIN, STATIC, scope, fate, 0, 0, 0, 0];
    let label = format!("add route to {}", route.destination.subnet());
    batch.message(NEWROUTE, REQUEST | CREATE | flags, &header, label);
    if route.destination.prefix > 0 {
        batch.attribute(1, &destination);
    }
    if let Some(gateway) = route.gateway {
        batch.attribute(5, &family_bytes(gateway).1);
    }
    if route.index > 0 {
        batch.number(4, route.index);
    }
    for (kind, value) in [(6, route.metric), (15, route.table)] {
        if value > 0 {
            batch.number(kind, value);
        }
    }
    if route.mtu > 0 || route.advmss > 0 {
        batch.nest(8, |metrics| {
            for (kind, value) in [(2, route.mtu), (8, route.advmss)] {
                if value > 0 {
                    metrics.number(kind, value);
                }
            }
        });
    }
}

/// Adds a route that is marked as `protocol`'s (`RTPROT_…`).
pub fn add_by(batch: &mut Batch, destination: Cidr, gateway: IpAddr, protocol: u8) {
    let (family, bytes) = family_bytes(destination.first());
    let header = [family, destination.prefix, 0, 0, 254, protocol, 0, 1, 0, 0, 0, 0];
    batch.message(
        NEWROUTE,
        REQUEST | CREATE | EXCL,
        &header,
        format!("add route to {destination} by {gateway}"),
    );
    batch.attribute(1, &bytes).attribute(5, &family_bytes(gateway).1);
}

/// Lets answers that come in by this interface reach `::1`, whose connections were sent on to a container: IPv6 knows no
/// `route_localnet`. Nobody else gets in by it, because the kernel drops what arrives for `::1` before it looks here.
pub fn accept_loopback_v6(batch: &mut Batch, index: u32) {
    const LOCAL_TABLE: u8 = 255;
    const LOCAL: u8 = 2;
    // Behind the loopback interface's own route.
    const METRIC: u32 = 900;
    let header = [10, 128, 0, 0, LOCAL_TABLE, 4, 0, LOCAL, 0, 0, 0, 0];
    batch.message(NEWROUTE, REQUEST | CREATE | APPEND, &header, "add route to ::1");
    batch.attribute(1, &std::net::Ipv6Addr::LOCALHOST.octets()).number(4, index).number(6, METRIC);
}

/// The routes of the main table that are marked as `protocol`'s.
///
/// # Errors
/// The kernel's refusal.
pub fn by_protocol(socket: &Socket, protocol: u8) -> Result<Vec<(Cidr, IpAddr)>> {
    let mut batch = Batch::new();
    batch.message(GETROUTE, 1 | DUMP, &[0; 12], "list routes");
    let mut found = Vec::new();
    socket.query(&batch, |_, body| {
        let (Some(&family), Some(&prefix), Some(&by)) = (body.first(), body.get(1), body.get(5)) else {
            return;
        };
        let all: Vec<(u16, &[u8])> = attributes(body.get(12..).unwrap_or(&[])).collect();
        let get = |wanted: u16| {
            all.iter().find(|(kind, _)| *kind == wanted).and_then(|(_, value)| address(family, value))
        };
        if let (true, Some(destination), Some(gateway)) = (by == protocol, get(1), get(5)) {
            found.push((Cidr { address: destination, prefix }, gateway));
        }
    })?;
    Ok(found)
}

/// Removes the route to a destination by a gateway; without one, that of this fate.
pub fn remove(batch: &mut Batch, destination: Cidr, gateway: Option<IpAddr>, fate: Fate) {
    const DELROUTE: u16 = 25;
    const MAIN: u8 = 254;
    const NOWHERE: u8 = 255;
    let (family, bytes) = family_bytes(destination.first());
    let header = [family, destination.prefix, 0, 0, MAIN, 0, NOWHERE, fate as u8, 0, 0, 0, 0];
    batch.message(DELROUTE, REQUEST, &header, format!("remove route to {destination}"));
    if destination.prefix > 0 {
        batch.attribute(1, &bytes);
    }
    if let Some(gateway) = gateway {
        batch.attribute(5, &family_bytes(gateway).1);
    }
}

/// Removes an address.
pub fn delete_address(batch: &mut Batch, index: u32, address: Cidr) {
    const DELADDR: u16 = 21;
    let (family, bytes) = family_bytes(address.address);
    let mut header = vec![family, address.prefix, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    batch.message(DELADDR, REQUEST, &header, format!("remove address {address}"));
    batch.attribute(1, &bytes).attribute(2, &bytes);
}

/// The addresses of an interface.
///
/// # Errors
/// The kernel's refusal.
pub fn addresses(socket: &Socket, index: u32) -> Result<Vec<Cidr>> {
    let mut header = [0; 8];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    let mut batch = Batch::new();
    batch.message(GETADDR, 1 | DUMP, &header, format!("list addresses of link {index}"));
    let mut found = Vec::new();
    match socket.query_strictly(&batch, |_, body| found.extend(read_address(body))) {
        Err(err) if errno(&err) == Some(Errno::ENODEV) => return Ok(Vec::new()),
        done => done?,
    }
    Ok(found.into_iter().filter(|(at, _)| *at == index).map(|(_, address)| address).collect())
}

/// All addresses of the namespace, each with its interface's index.
///
/// # Errors
/// The kernel's refusal.
pub fn own(socket: &Socket) -> Result<Vec<(u32, Cidr)>> {
    let mut batch = Batch::new();
    batch.message(GETADDR, 1 | DUMP, &[0; 8], "list addresses");
    let mut found = Vec::new();
    socket.query(&batch, |_, body| found.extend(read_address(body)))?;
    Ok(found)
}

/// The link and the address of a message.
fn read_address(body: &[u8]) -> Option<(u32, Cidr)> {
    let (&family, &prefix) = (body.first()?, body.get(1)?);
    let all: Vec<(u16, &[u8])> = attributes(body.get(8..)?).collect();
    // IFA_LOCAL where there is one: IFA_ADDRESS is the other end of a point-to-point link.
    let local = all.iter().find(|(kind, _)| *kind == 2).or(all.iter().find(|(kind, _)| *kind == 1));
    let address = local.and_then(|(_, value)| address(family, value))?;
    Some((number(body.get(4..8)), Cidr { address, prefix }))
}

/// The routes over an interface, of all tables.
///
/// # Errors
/// The kernel's refusal.
pub fn all(socket: &Socket, index: u32) -> Result<Vec<Route>> {
    let mut batch = Batch::new();
    batch.message(GETROUTE, 1 | DUMP, &[0; 12], "list routes");
    let mut found = Vec::new();
    socket.query(&batch, |_, body| {
        let (Some(&family), Some(&prefix)) = (body.first(), body.get(1)) else { return };
        let any: IpAddr = if family == 2 { [0; 4].into() } else { [0; 16].into() };
        let mut route = Route::new(Cidr { address: any, prefix }, None, 0);
        for (kind, value) in attributes(body.get(12..).unwrap_or(&[])) {
            match kind {
                1 => route.destination.address = address(family, value).unwrap_or(any),
                4 => route.index = number(Some(value)),
                5 => route.gateway = address(family, value),
                _ => {}
            }
        }
        if route.index == index {
            found.push(route);
        }
    })?;
    Ok(found)
}

/// The interface of the default route.
///
/// # Errors
/// The kernel's refusal.
pub fn default_link(socket: &Socket) -> Result<Option<u32>> {
    let mut batch = Batch::new();
    batch.message(GETROUTE, 1 | DUMP, &[0; 12], "list routes");
    let mut found = None;
    socket.query(&batch, |_, body| {
        // Of the main table: the local one has a default route for IPv6's loopback.
        if body.get(1) == Some(&0) && body.get(4) == Some(&254) && found.is_none() {
            let mut all = attributes(body.get(12..).unwrap_or(&[]));
            found = all.find(|(kind, _)| *kind == 4).map(|(_, value)| number(Some(value)));
        }
    })?;
    Ok(found)
}

fn number(bytes: Option<&[u8]>) -> u32 {
    bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        2 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        10 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}
