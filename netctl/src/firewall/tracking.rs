//! Connection tracking (ctnetlink): an entry decides where the packets of its connection go, whatever the rules say now.
//!
//! UDP and SCTP senders go on for ever; so entries from before a port was published, or from before it was withdrawn,
//! are removed. A TCP client notices by itself; its entries go with the container's, too.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use super::{Family, Publish};
use crate::netlink::message::{Batch, REQUEST};
use crate::netlink::socket::{Socket, errno};

const DELETE: u16 = 1 << 8 | 2;
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
const TCP: u8 = 6;

/// Bits of `CTA_FILTER_ORIG_FLAGS` and `…_REPLY_FLAGS`: which parts of a tuple count.
const SOURCE: u32 = 1 << 0;
const PROTOCOL: u32 = 1 << 3;
const SOURCE_PORT: u32 = 1 << 4;
const DESTINATION_PORT: u32 = 1 << 5;

/// Forgets connections to the host's side of ports that are published now: they were to the host itself.
///
/// # Errors
/// The kernel's refusal.
pub fn forget_earlier(socket: &Socket, ports: &[Publish]) -> Result<()> {
    let mut batch = Batch::new();
    for port in ports.iter().filter(|port| port.protocol != TCP) {
        delete(&mut batch, port, |batch| {
            batch.nest(TUPLE_ORIG, |tuple| protocol(tuple, port.protocol, 3, port.host_port));
            batch.nest(FILTER, |filter| {
                filter.number(1, PROTOCOL | DESTINATION_PORT).number(2, 0);
            });
        });
    }
    run(socket, &batch)
}

/// Forgets connections that were sent on to the container's side of these ports.
///
/// # Errors
/// The kernel's refusal.
pub fn forget(socket: &Socket, ports: &[Publish]) -> Result<()> {
    let mut batch = Batch::new();
    for port in ports.iter().filter(|port| port.protocol != TCP) {
        delete(&mut batch, port, |batch| {
            batch.nest(TUPLE_REPLY, |tuple| {
                tuple.nest(1, |ip| {
                    match port.to {
                        IpAddr::V4(address) => ip.attribute(1, &address.octets()),
                        IpAddr::V6(address) => ip.attribute(3, &address.octets()),
                    };
                });
                protocol(tuple, port.protocol, 2, port.to_port);
            });
            batch.nest(FILTER, |filter| {
                filter.number(1, 0).number(2, SOURCE | PROTOCOL | SOURCE_PORT);
            });
        });
    }
    run(socket, &batch)
}

fn delete(batch: &mut Batch, port: &Publish, fill: impl FnOnce(&mut Batch)) {
    let family = if Family::V4.has(port.to) { Family::V4 } else { Family::V6 };
    let label = format!("forget connections to {}", port.to);
    batch.message(DELETE, REQUEST, &[family.number(), 0, 0, 0], label);
    fill(batch);
}

/// `CTA_TUPLE_PROTO`: the protocol and its source (2) or destination (3) port.
fn protocol(tuple: &mut Batch, number: u8, which: u16, port: u16) {
    tuple.nest(2, |proto| {
        proto.attribute(1, &[number]).attribute(which, &port.to_be_bytes());
    });
}

fn run(socket: &Socket, batch: &Batch) -> Result<()> {
    if batch.len() == 0 {
        return Ok(());
    }
    match socket.run(batch) {
        // Nothing to forget; or a kernel before 5.8, which cannot choose: there they end by themselves.
        Err(err) if matches!(errno(&err), Some(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EINVAL)) => Ok(()),
        other => other.context("forget tracked connections"),
    }
}
