//! Which MAC address may send into a bridge by which port (CNI's `macspoofchk`): `table bridge bulkhead`, whichever
//! back end has the other rules. A port costs an element in each of two sets, and no rule.

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::batch::{Family, Hook, Transaction, list_elements};
use super::expression::{IIFNAME, REGISTER, Rule, Verdict};
use crate::netlink::message::attributes;
use crate::netlink::socket::{Socket, errno};

/// A port with the one address that may be behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Station {
    /// The interface that is a port of the bridge.
    pub port: String,
    /// The MAC address.
    pub mac: [u8; 6],
}

/// Ports that are looked at.
const PORTS: (&str, u32) = ("held", 1);
/// Port . MAC address: what passes.
const STATIONS: (&str, u32) = ("stations", 2);
/// nft's numbers for its types, six bits each in a concatenation.
const IFNAME: u32 = 41;
const ETHER: u32 = 9;
const NAME: usize = 16;

type Element = (Vec<u8>, Vec<u8>);

impl Station {
    fn elements(&self) -> (Element, Element) {
        let mut name = self.port.as_bytes().to_vec();
        name.resize(NAME, 0);
        // Every part of a concatenation is padded to four bytes.
        let station = [name.as_slice(), &self.mac, &[0; 2]].concat();
        ((name, Vec::new()), (station, Vec::new()))
    }
}

/// Lets each of these ports send from its address only.
///
/// # Errors
/// `Unsupported` where the kernel has no such tables.
pub fn hold(table: &'static str, stations: &[Station]) -> Result<()> {
    const FILTER: Hook = Hook { kind: "filter", number: 0, priority: -300 };
    let family = Family::Bridge;
    let socket = Socket::netfilter()?;
    let mut transaction = Transaction::new(table);
    if held(&socket, table)?.is_none() {
        transaction.add_table(family);
        transaction.add_set(family, PORTS, (IFNAME, 16));
        transaction.add_set(family, STATIONS, (IFNAME << 6 | ETHER, 24));
        transaction.add_chain(family, "prerouting", Some(FILTER));
        let held = Rule::new().meta(IIFNAME, REGISTER).look_for(PORTS.0, PORTS.1, true);
        let passes = held.payload(0, 6, 6, REGISTER + 4).look_for(STATIONS.0, STATIONS.1, false);
        transaction.add_rule(family, "prerouting", &passes.verdict(Verdict::Drop));
    }
    let (ports, stations): (Vec<_>, Vec<_>) = stations.iter().map(Station::elements).unzip();
    transaction.add_elements(family, STATIONS.0, &stations);
    transaction.add_elements(family, PORTS.0, &ports);
    match socket.run(&transaction.finish()) {
        Err(err) if errno(&err).is_some_and(is_unknown) => {
            fault!(Unsupported, "this kernel has no nftables for bridges (CONFIG_NF_TABLES_BRIDGE)")
        }
        other => other.context("write the bridge table of nftables"),
    }
}

fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT)
}

/// How many ports are held; `None` where the table is missing.
fn held(socket: &Socket, table: &'static str) -> Result<Option<usize>> {
    let mut held = 0;
    let asked = socket.query(&list_elements(Family::Bridge, table, PORTS.0), |_, body| {
        for (_, list) in attributes(body.get(4..).unwrap_or_default()).filter(|(kind, _)| *kind == 3) {
            held += attributes(list).count();
        }
    });
    match asked {
        Err(err) if errno(&err) == Some(Errno::ENOENT) || errno(&err).is_some_and(is_unknown) => Ok(None),
        other => other.map(|()| Some(held)).context("look at the bridge table of nftables"),
    }
}

/// Forgets a port; one that is not held is no error. The table goes with the last one.
///
/// # Errors
/// The kernel's refusal.
pub fn release(table: &'static str, station: &Station) -> Result<()> {
    let socket = Socket::netfilter()?;
    let family = Family::Bridge;
    let Some(held) = held(&socket, table)? else { return Ok(()) };
    let mut transaction = Transaction::new(table);
    if held > 1 {
        let (port, station) = station.elements();
        transaction.delete_elements(family, PORTS.0, &[port]);
        transaction.delete_elements(family, STATIONS.0, &[station]);
    } else {
        transaction.delete_table(family);
    }
    let done = socket.run(&transaction.finish());
    socket.close_at_exit();
    match done {
        Err(err) if errno(&err) == Some(Errno::ENOENT) => Ok(()),
        other => other.context("write the bridge table of nftables"),
    }
}
