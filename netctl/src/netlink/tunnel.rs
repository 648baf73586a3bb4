//! Links that carry frames to other hosts, and where they send them: vxlan(8), gretap(8), bridge-fdb(8).

use std::net::IpAddr;

use anyhow::Result;

use super::link::{family_bytes, ifinfo};
use super::message::{APPEND, Batch, CREATE, DUMP, EXCL, REQUEST, attributes};
use super::socket::Socket;

const NEWLINK: u16 = 16;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;
const GETNEIGH: u16 = 30;
const AF_BRIDGE: u8 = 7;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// The address that stands for every frame whose destination is not known, or is everybody.
const ANYWHERE: [u8; 6] = [0; 6];

/// A VXLAN link (RFC 7348).
#[derive(Debug, Clone, Copy)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// VXLAN network identifier, 24 bits.
    pub id: u32,
    /// This host's address on the network that carries the frames.
    pub local: IpAddr,
    /// UDP port of all hosts.
    pub port: u16,
    /// MTU of what is inside.
    pub mtu: u32,
    /// Index of the bridge that it is a port of.
    pub bridge: u32,
}

/// Adds a VXLAN link, up, as a port of its bridge. It learns from what arrives who is where.
pub fn add_vxlan(batch: &mut Batch, vxlan: Vxlan<'_>) {
    let name = vxlan.name;
    batch.message(NEWLINK, REQUEST | CREATE | EXCL, &ifinfo(0, true), format!("add vxlan {name}"));
    batch.text(3, name).number(4, vxlan.mtu).number(10, vxlan.bridge);
    batch.nest(18, |info| {
        info.text(1, "vxlan").nest(2, |data| {
            data.number(1, vxlan.id).attribute(7, &[1]).attribute(15, &vxlan.port.to_be_bytes());
            match vxlan.local {
                IpAddr::V4(local) => data.attribute(4, &local.octets()),
                // Inside IPv6 the outer checksum is not optional.
                IpAddr::V6(local) => data.attribute(17, &local.octets()),
            };
        });
    });
}

/// A tunnel of Ethernet frames in GRE to one other host (RFC 2784, RFC 2890).
#[derive(Debug, Clone, Copy)]
pub struct Gre<'a> {
    /// Its name.
    pub name: &'a str,
    /// Tells the networks between the same two hosts apart.
    pub key: u32,
    /// This host's address.
    pub local: IpAddr,
    /// The other host's.
    pub remote: IpAddr,
    /// MTU of what is inside.
    pub mtu: u32,
    /// Index of the bridge that it is a port of.
    pub bridge: u32,
}

/// Adds a GRE tunnel, up, as a port of its bridge.
pub fn add_gre(batch: &mut Batch, gre: Gre<'_>) {
    const KEY_PRESENT: u16 = 0x2000;
    let label = format!("add gretap {} to {}", gre.name, gre.remote);
    batch.message(NEWLINK, REQUEST | CREATE | EXCL, &ifinfo(0, true), label);
    batch.text(3, gre.name).number(4, gre.mtu).number(10, gre.bridge);
    let kind = if gre.local.is_ipv4() { "gretap" } else { "ip6gretap" };
    batch.nest(18, |info| {
        info.text(1, kind).nest(2, |data| {
            for flags in [2, 3] {
                data.attribute(flags, &KEY_PRESENT.to_be_bytes());
            }
            for key in [4, 5] {
                data.number_be(key, gre.key);
            }
            data.attribute(6, &family_bytes(gre.local).1).attribute(7, &family_bytes(gre.remote).1);
            data.attribute(8, &[64]);
        });
    });
}

fn neighbour(index: u32) -> [u8; 12] {
    const PERMANENT: u16 = 0x80;
    const NO_ARP: u16 = 0x40;
    const SELF: u8 = 2;
    let mut header = [0; 12];
    header[0] = AF_BRIDGE;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&(PERMANENT | NO_ARP).to_ne_bytes());
    header[10] = SELF;
    header
}

/// Has frames for nobody in particular sent to this host, too.
pub fn add_flood(batch: &mut Batch, index: u32, to: IpAddr) {
    let label = format!("send frames to {to}");
    batch.message(NEWNEIGH, REQUEST | CREATE | APPEND, &neighbour(index), label);
    batch.attribute(NDA_LLADDR, &ANYWHERE).attribute(NDA_DST, &family_bytes(to).1);
}

/// Undoes [`add_flood`].
pub fn remove_flood(batch: &mut Batch, index: u32, to: IpAddr) {
    batch.message(DELNEIGH, REQUEST, &neighbour(index), format!("stop sending frames to {to}"));
    batch.attribute(NDA_LLADDR, &ANYWHERE).attribute(NDA_DST, &family_bytes(to).1);
}

/// The hosts that get the frames for nobody in particular.
///
/// # Errors
/// The kernel's refusal.
pub fn floods(socket: &Socket, index: u32) -> Result<Vec<IpAddr>> {
    let mut batch = Batch::new();
    let mut header = [0; 12];
    header[0] = AF_BRIDGE;
    batch.message(GETNEIGH, 1 | DUMP, &header, "list forwarding entries");
    let mut found = Vec::new();
    socket.query(&batch, |_, body| {
        if body.get(4..8) != Some(&index.to_ne_bytes()) {
            return;
        }
        let all: Vec<(u16, &[u8])> = attributes(body.get(12..).unwrap_or(&[])).collect();
        let has = |wanted: u16| all.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| *value);
        if has(NDA_LLADDR) == Some(&ANYWHERE) {
            let to = has(NDA_DST).unwrap_or_default();
            found.extend(<[u8; 4]>::try_from(to).map(IpAddr::from));
            found.extend(<[u8; 16]>::try_from(to).map(IpAddr::from));
        }
    })?;
    Ok(found)
}
