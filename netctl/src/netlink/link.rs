//! rtnetlink messages (rtnetlink(7)): links, addresses, routes.

use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::Result;
use nix::errno::Errno;

use super::message::{Batch, CREATE, DUMP, EXCL, REQUEST, attributes};
use super::socket::{Socket, errno};
use crate::cidr::Cidr;

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFF_UP: u32 = 1;

/// A link as the kernel lists it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Maximum transmission unit.
    pub mtu: u32,
    /// MAC address.
    pub mac: Vec<u8>,
    /// Index of the bridge that it is a port of.
    pub master: u32,
    /// What it is: `bridge`, `veth`, …; empty for hardware.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Index of the other end of a veth pair, in that end's namespace.
    pub peer: u32,
    /// What somebody noted on it.
    pub alias: String,
}

/// How a bridge treats one of its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortMode {
    /// Frames may go out of the port that they came in by.
    pub hairpin: bool,
    /// It talks to the bridge itself only, not to other such ports.
    pub isolated: bool,
}

/// The veth pair of one attachment.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// Name of the host's end.
    pub host: &'a str,
    /// Name of the end inside.
    pub inside: &'a str,
    /// MAC address inside.
    pub mac: [u8; 6],
    /// MTU of both ends.
    pub mtu: u32,
    /// Index of the bridge.
    pub bridge: u32,
}

/// The fixed part of a message about a link, `ifinfomsg`.
pub(super) fn ifinfo(index: u32, up: bool) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if up {
        header[8..12].copy_from_slice(&IFF_UP.to_ne_bytes());
        header[12..16].copy_from_slice(&IFF_UP.to_ne_bytes());
    }
    header
}

/// A bridge to make.
#[derive(Debug, Clone, Copy)]
pub struct NewBridge {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its MTU; `None` for the kernel's choice.
    pub mtu: Option<u32>,
    /// Whether it tells VLANs apart; then no port is in any until it is put there.
    pub filters_vlans: bool,
}

/// Adds a bridge, still down. It has a fixed MAC so that it does not change with every port (and with it the
/// neighbours' caches).
pub fn add_bridge(batch: &mut Batch, name: &str, new: NewBridge) {
    const VLAN_FILTERING: u16 = 7;
    const VLAN_DEFAULT_PVID: u16 = 39;
    batch.message(NEWLINK, REQUEST | CREATE | EXCL, &ifinfo(0, false), format!("add bridge {name}"));
    batch.text(IFLA_IFNAME, name).attribute(IFLA_ADDRESS, &new.mac);
    if let Some(mtu) = new.mtu {
        batch.number(IFLA_MTU, mtu);
    }
    batch.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge");
        if new.filters_vlans {
            info.nest(IFLA_INFO_DATA, |data| {
                data.attribute(VLAN_DEFAULT_PVID, &0u16.to_ne_bytes()).attribute(VLAN_FILTERING, &[1]);
            });
        }
    });
}

/// Adds a link for one VLAN of a parent, tagged on the wire, with a note of whose it is.
pub fn add_tagged(batch: &mut Batch, name: &str, (parent, vlan): (u32, u16), note: &str) {
    const VLAN_ID: u16 = 1;
    batch.message(NEWLINK, REQUEST | CREATE | EXCL, &ifinfo(0, false), format!("add {name}"));
    batch.text(IFLA_IFNAME, name).number(IFLA_LINK, parent);
    batch.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "vlan").nest(IFLA_INFO_DATA, |data| {
            data.attribute(VLAN_ID, &vlan.to_ne_bytes());
        });
    });
    batch.message(NEWLINK, REQUEST, &ifinfo(0, true), format!("set {name} up"));
    batch.text(IFLA_IFNAME, name).attribute(IFLA_IFALIAS, note.as_bytes());
}

/// Has a bridge tell VLANs apart, whoever made it; ports stay in the one that they are in.
pub fn filter_vlans(batch: &mut Batch, index: u32) {
    const VLAN_FILTERING: u16 = 7;
    batch.message(NEWLINK, REQUEST, &ifinfo(index, false), "switch VLAN filtering on");
    batch.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "bridge").nest(IFLA_INFO_DATA, |data| {
            data.attribute(VLAN_FILTERING, &[1]);
        });
    });
}

const SETLINK: u16 = 19;

/// Puts a bridge port (or the bridge's own side) into a VLAN, without tags on its side.
pub fn set_vlan(batch: &mut Batch, index: u32, vlan: u32, own_side: bool) {
    const PVID_UNTAGGED: u16 = 2 | 4;
    bridge_port(batch, SETLINK, index, format!("put a port into VLAN {vlan}"));
    batch.nest(IFLA_AF_SPEC, |spec| {
        if own_side {
            spec.attribute(BRIDGE_FLAGS, &2u16.to_ne_bytes());
        }
        vlan_info(spec, PVID_UNTAGGED, u16::try_from(vlan).unwrap_or(0));
    });
}

/// Lets a bridge port carry VLANs, from the first to the last, with tags on its side.
pub fn carry_vlans(batch: &mut Batch, index: u32, vlans: (u16, u16)) {
    vlan_range(batch, SETLINK, index, vlans);
}

/// Takes a bridge port out of all VLANs.
pub fn leave_vlans(batch: &mut Batch, index: u32) {
    vlan_range(batch, DELLINK, index, (1, 4094));
}

const IFLA_AF_SPEC: u16 = 26;
/// Within `IFLA_AF_SPEC`.
const BRIDGE_FLAGS: u16 = 0;

fn vlan_range(batch: &mut Batch, kind: u16, index: u32, (first, last): (u16, u16)) {
    const RANGE_BEGIN: u16 = 8;
    const RANGE_END: u16 = 16;
    bridge_port(batch, kind, index, format!("change the VLANs {first} to {last} of a port"));
    batch.nest(IFLA_AF_SPEC, |spec| {
        if first == last {
            vlan_info(spec, 0, first);
        } else {
            vlan_info(spec, RANGE_BEGIN, first);
            vlan_info(spec, RANGE_END, last);
        }
    });
}

fn vlan_info(spec: &mut Batch, flags: u16, vlan: u16) {
    const VLAN_INFO: u16 = 2;
    spec.attribute(VLAN_INFO, &[flags.to_ne_bytes(), vlan.to_ne_bytes()].concat());
}

fn bridge_port(batch: &mut Batch, kind: u16, index: u32, label: String) {
    const AF_BRIDGE: u8 = 7;
    let mut header = ifinfo(index, false);
    header[0] = AF_BRIDGE;
    batch.message(kind, REQUEST, &header, label);
}

/// Adds a veth pair: the host's end on the bridge and up, the other directly inside `netns`, still down (the
/// kernel refuses to bring it up before the pair is complete).
pub fn add_veth(batch: &mut Batch, veth: Veth<'_>, netns: BorrowedFd<'_>) {
    let label = format!("add interface {} with host end {}", veth.inside, veth.host);
    batch.message(NEWLINK, REQUEST | CREATE | EXCL, &ifinfo(0, true), label);
    batch.text(IFLA_IFNAME, veth.host).number(IFLA_MTU, veth.mtu).number(IFLA_MASTER, veth.bridge);
    batch.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.raw(&ifinfo(0, false)).text(IFLA_IFNAME, veth.inside);
                peer.attribute(IFLA_ADDRESS, &veth.mac).number(IFLA_MTU, veth.mtu);
                peer.attribute(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
            });
        });
    });
}

/// A link that shares a parent's wire.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    /// Index of the parent.
    pub parent: u32,
    /// Its name inside.
    pub inside: &'a str,
    /// Its MAC address; `None` for the kernel's choice (ipvlan: the parent's).
    pub mac: Option<[u8; 6]>,
    /// MTU; `None` for the parent's.
    pub mtu: Option<u32>,
    /// `macvlan` or `ipvlan`, with the kernel's number of the mode.
    pub mode: Mode,
    /// From how many interested macvlans on a multicast frame waits its turn (`bclim`, -1: never); `None` for the
    /// kernel's choice.
    pub broadcast_limit: Option<i32>,
}

/// See [`Slice`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `private` 1, `vepa` 2, `bridge` 4, `passthru` 8, `source` 16.
    Macvlan(u32),
    /// `l2` 0, `l3` 1, `l3s` 2.
    Ipvlan(u16),
}

impl Mode {
    /// Macvlans of one parent talk to each other.
    pub const MACVLAN_BRIDGE: Self = Self::Macvlan(4);
}

/// Adds a macvlan or ipvlan directly inside `netns`.
pub fn add_slice(batch: &mut Batch, slice: Slice<'_>, netns: BorrowedFd<'_>) {
    const MACVLAN_BC_CUTOFF: u16 = 9;
    let inside = slice.inside;
    let kind = if matches!(slice.mode, Mode::Macvlan(_)) { "macvlan" } else { "ipvlan" };
    batch.message(NEWLINK, REQUEST | CREATE | EXCL, &ifinfo(0, false), format!("add {kind} {inside}"));
    batch.text(IFLA_IFNAME, inside).number(IFLA_LINK, slice.parent);
    if let Some(mac) = slice.mac {
        batch.attribute(IFLA_ADDRESS, &mac);
    }
    if let Some(mtu) = slice.mtu {
        batch.number(IFLA_MTU, mtu);
    }
    batch.attribute(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes());
    batch.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, kind).nest(IFLA_INFO_DATA, |data| {
            match slice.mode {
                Mode::Macvlan(mode) => data.number(1, mode),
                Mode::Ipvlan(mode) => data.attribute(1, &mode.to_ne_bytes()),
            };
            if let Some(limit) = slice.broadcast_limit {
                data.attribute(MACVLAN_BC_CUTOFF, &limit.to_ne_bytes());
            }
        });
    });
}

/// Sets a bridge port up for a container.
pub fn set_port(batch: &mut Batch, port: &str, mode: PortMode) {
    set_port_of(batch, (0, port), mode);
}

/// As [`set_port`], by index where that is not 0.
pub fn set_port_of(batch: &mut Batch, (index, port): (u32, &str), mode: PortMode) {
    const INFO_SLAVE_KIND: u16 = 4;
    const INFO_SLAVE_DATA: u16 = 5;
    const BRPORT_MODE: u16 = 4;
    const BRPORT_ISOLATED: u16 = 33;
    batch.message(NEWLINK, REQUEST, &ifinfo(index, false), format!("set up bridge port {port}"));
    if index == 0 {
        batch.text(IFLA_IFNAME, port);
    }
    batch.nest(IFLA_LINKINFO, |info| {
        info.text(INFO_SLAVE_KIND, "bridge").nest(INFO_SLAVE_DATA, |data| {
            data.attribute(BRPORT_MODE, &[u8::from(mode.hairpin)]);
            data.attribute(BRPORT_ISOLATED, &[u8::from(mode.isolated)]);
        });
    });
}

/// Brings a link up.
pub fn set_up(batch: &mut Batch, index: u32, name: &str) {
    batch.message(NEWLINK, REQUEST, &ifinfo(index, true), format!("set {name} up"));
}

/// Changes nothing about a link: allowed to whoever may change it.
pub fn touch(batch: &mut Batch, index: u32) {
    batch.message(NEWLINK, REQUEST, &ifinfo(index, false), format!("touch link {index}"));
}

/// Has a bridge take every frame, whatever its address.
pub fn set_promiscuous(batch: &mut Batch, index: u32) {
    const IFF_PROMISC: u32 = 0x100;
    let mut header = ifinfo(index, false);
    header[8..12].copy_from_slice(&IFF_PROMISC.to_ne_bytes());
    header[12..16].copy_from_slice(&IFF_PROMISC.to_ne_bytes());
    batch.message(NEWLINK, REQUEST, &header, "set the bridge promiscuous");
}

/// Makes a link a port of another (a bridge, a vrf).
pub fn set_master(batch: &mut Batch, name: &str, master: u32) {
    batch.message(NEWLINK, REQUEST, &ifinfo(0, false), format!("set the master of {name}"));
    batch.text(IFLA_IFNAME, name).number(IFLA_MASTER, master);
}

/// Removes a link by name.
pub fn delete(batch: &mut Batch, name: &str) {
    batch.message(DELLINK, REQUEST, &ifinfo(0, false), format!("remove {name}")).text(IFLA_IFNAME, name);
}

/// Removes all these links as one step: each step waits for a grace period.
pub fn delete_together(batch: &mut Batch, links: &[u32], group: u32) {
    const IFLA_GROUP: u16 = 27;
    for index in links {
        batch.message(NEWLINK, REQUEST, &ifinfo(*index, false), format!("mark link {index}"));
        batch.number(IFLA_GROUP, group);
    }
    batch.message(DELLINK, REQUEST, &ifinfo(0, false), "remove marked links").number(IFLA_GROUP, group);
}

/// Adds an address. `NODAD`: nobody else can have it on a link that we number, and waiting for the detection
/// would make the first second of an IPv6 container fail.
pub fn add_address(batch: &mut Batch, index: u32, address: Cidr) {
    const NODAD: u8 = 2;
    let (family, bytes) = family_bytes(address.address);
    let mut header = vec![family, address.prefix, if family == 10 { NODAD } else { 0 }, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    batch.message(NEWADDR, REQUEST | CREATE | EXCL, &header, format!("add address {address}"));
    batch.attribute(1, &bytes).attribute(2, &bytes);
    if let (IpAddr::V4(_), IpAddr::V4(last)) = (address.address, address.last()) {
        batch.attribute(4, &last.octets());
    }
}

/// Adds the default route through `gateway` (metric 0 leaves the kernel's choice).
pub fn add_default_route(batch: &mut Batch, index: u32, gateway: IpAddr, metric: u32) {
    let (family, bytes) = family_bytes(gateway);
    let label = format!("add default route via {gateway}");
    batch.message(NEWROUTE, REQUEST | CREATE | EXCL, &[family, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0], label);
    batch.attribute(5, &bytes).number(4, index);
    if metric > 0 {
        batch.number(6, metric);
    }
}

pub(super) fn family_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (2, address.octets().to_vec()),
        IpAddr::V6(address) => (10, address.octets().to_vec()),
    }
}

/// The link of that name; `None` where there is none.
///
/// # Errors
/// The kernel's refusal other than "no such device".
pub fn find(socket: &Socket, name: &str) -> Result<Option<Link>> {
    let mut batch = Batch::new();
    batch.message(GETLINK, 1, &ifinfo(0, false), format!("look for {name}")).text(IFLA_IFNAME, name);
    ask(socket, &batch)
}

/// The link of that index; `None` where there is none.
///
/// # Errors
/// As [`find`].
pub fn find_index(socket: &Socket, index: u32) -> Result<Option<Link>> {
    let mut batch = Batch::new();
    batch.message(GETLINK, 1, &ifinfo(index, false), format!("look for link {index}"));
    ask(socket, &batch)
}

fn ask(socket: &Socket, batch: &Batch) -> Result<Option<Link>> {
    let mut found = None;
    let asked = socket.query(batch, |_, body| {
        let Some(index) = body.get(4..8).and_then(|bytes| bytes.try_into().ok()) else { return };
        let mut link = Link { index: u32::from_ne_bytes(index), ..Link::default() };
        for (kind, value) in attributes(body.get(16..).unwrap_or(&[])) {
            match kind {
                IFLA_ADDRESS => link.mac = value.to_vec(),
                IFLA_IFNAME => link.name = String::from_utf8_lossy(value).trim_end_matches('\0').into(),
                IFLA_IFALIAS => {
                    link.alias = String::from_utf8_lossy(value).trim_end_matches('\0').into();
                }
                IFLA_LINK => link.peer = value.try_into().map_or(0, u32::from_ne_bytes),
                IFLA_MTU => link.mtu = value.try_into().map_or(0, u32::from_ne_bytes),
                IFLA_MASTER => link.master = value.try_into().map_or(0, u32::from_ne_bytes),
                IFLA_LINKINFO => {
                    let kind = attributes(value).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                    let text = kind.map(|(_, value)| String::from_utf8_lossy(value));
                    link.kind = text.unwrap_or_default().trim_end_matches('\0').into();
                }
                _ => {}
            }
        }
        found = Some(link);
    });
    match asked {
        Err(err) if errno(&err) == Some(Errno::ENODEV) => Ok(None),
        other => other.map(|()| found),
    }
}

/// Whether a bridge has ports other than that one: the kernel lists no more of them than that takes.
///
/// # Errors
/// The kernel's refusal.
pub fn has_other_ports(socket: Socket, bridge: u32, port: u32) -> Result<bool> {
    let mut batch = Batch::new();
    batch.message(GETLINK, 1 | DUMP, &ifinfo(0, false), "list ports").number(IFLA_MASTER, bridge);
    let mut found = false;
    socket.query_until(&batch, |body| {
        let is_it = body.get(4..8) == Some(&port.to_ne_bytes());
        let mut all = attributes(body.get(16..).unwrap_or(&[]));
        found = !is_it && all.any(|(kind, value)| kind == IFLA_MASTER && value == bridge.to_ne_bytes());
        found
    })?;
    Ok(found)
}

/// The names of a bridge's ports.
///
/// # Errors
/// The kernel's refusal.
pub fn ports(socket: &Socket, bridge: u32) -> Result<Vec<String>> {
    let mut batch = Batch::new();
    batch.message(GETLINK, 1 | DUMP, &ifinfo(0, false), "list links");
    let mut found = Vec::new();
    socket.query(&batch, |_, body| {
        let all: Vec<(u16, &[u8])> = attributes(body.get(16..).unwrap_or(&[])).collect();
        let get = |wanted: u16| all.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
        if let (Some(master), Some(name)) = (get(IFLA_MASTER), get(IFLA_IFNAME))
            && master == bridge.to_ne_bytes()
        {
            found.push(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        }
    })?;
    Ok(found)
}

/// Removes a link; one that has gone is no error.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(socket: &Socket, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    delete(&mut batch, name);
    match socket.run(&batch) {
        Err(err) if errno(&err) == Some(Errno::ENODEV) => Ok(()),
        other => other,
    }
}

/// All destinations that the namespace routes to directly, except the default routes: what a new subnet must avoid.
///
/// # Errors
/// The kernel's refusal.
pub fn routed(socket: &Socket) -> Result<Vec<Cidr>> {
    let mut batch = Batch::new();
    batch.message(GETROUTE, 1 | DUMP, &[0; 12], "list routes");
    let mut found = Vec::new();
    socket.query(&batch, |_, body| {
        let (Some(&family), Some(&prefix)) = (body.first(), body.get(1)) else { return };
        for (kind, value) in attributes(body.get(12..).unwrap_or(&[])) {
            let address: Option<IpAddr> = match (kind, family) {
                (1, 2) => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
                (1, 10) => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
                _ => None,
            };
            // Multicast and link-local entries exist everywhere and mean nothing here.
            if let Some(address) = address.filter(|_| prefix > 0) {
                found.push(Cidr { address, prefix });
            }
        }
    })?;
    Ok(found)
}
