//! The packet filter: one nftables table per address family, `ip bulkhead` and `ip6 bulkhead`, and nothing outside.
//!
//! The part that depends on the networks (a few rules each) is written anew, atomically, when a network comes or
//! goes. Published ports are elements of two maps, so that a container costs no rule and look-up stays constant.
//!
//! Hosts that filter with iptables have the same rules in chains of ours there ([`iptables`]).

mod batch;
pub mod choice;
mod expression;
mod iptables;
mod programs;
pub mod stations;
mod table;
#[cfg(test)]
mod tests;
mod tracking;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::netlink::message::Batch;
use crate::netlink::socket::{Socket, errno};
use crate::state::State;
pub use batch::Family;
use batch::Transaction;
pub use choice::Choice;
use programs::Programs;
pub use programs::find as find_program;

/// What the rules need to know of a network whose bridge exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Zone {
    /// The bridge's name.
    pub bridge: String,
    /// Its subnets.
    pub subnets: Vec<Cidr>,
    /// No way out or in.
    pub internal: bool,
    /// Sources are hidden behind the host's address on the way out.
    pub masquerade: bool,
    /// Others may open connections to unpublished ports by routing through this host.
    pub routed: bool,
    /// Where our name server answers the containers of this network: port 53 there cannot be published to them.
    pub names: Vec<IpAddr>,
    /// The port it listens on, where that is not 53: 0 for 53.
    #[serde(skip_serializing_if = "is_usual")]
    pub names_port: u16,
    /// The address to hide behind instead of the one of the interface that a packet leaves by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Ipv4Addr>,
    /// As `source`, for IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source6: Option<Ipv6Addr>,
    /// Which other networks it keeps away from, where it is `routed`.
    pub isolation: Isolation,
    /// Where IPv6 differs from `masquerade` and `routed`.
    pub v6: Option<Nat>,
    /// Its containers reach each other through published ports only.
    pub closed: bool,
    /// Interfaces of the host behind which everybody may reach its containers directly.
    pub trusted: Vec<String>,
    /// Subnets of containers on other hosts that may reach its containers directly.
    pub partners: Vec<Cidr>,
}

/// How packets get out of a network and into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// See [`Zone::masquerade`].
    pub masquerade: bool,
    /// See [`Zone::routed`].
    pub routed: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_usual(port: &u16) -> bool {
    [0, 53].contains(port)
}

impl Zone {
    fn nat(&self, family: Family) -> Nat {
        let v4 = Nat { masquerade: self.masquerade, routed: self.routed };
        if family == Family::V6 { self.v6.unwrap_or(v4) } else { v4 }
    }

    /// The address that a family's packets hide behind, where one is said.
    fn hides_behind(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.source.map(IpAddr::from),
            Family::V6 => self.source6.map(IpAddr::from),
            Family::Bridge => None,
        }
    }

    /// Takes in what another attachment says of the same bridge.
    pub fn merge(&mut self, other: &Self) {
        for subnet in &other.subnets {
            if !self.subnets.contains(subnet) {
                self.subnets.push(*subnet);
            }
        }
        for name_server in &other.names {
            if !self.names.contains(name_server) {
                self.names.push(*name_server);
            }
        }
        self.masquerade |= other.masquerade;
    }
}

/// Podman's `isolate` option.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isolation {
    /// None.
    #[default]
    No,
    /// Those that are isolated, too.
    Some,
    /// All others.
    Strict,
}

/// One published port as the maps hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publish {
    /// The host's address; `None` for all of them.
    pub host: Option<IpAddr>,
    /// IP protocol number.
    pub protocol: u8,
    /// The host's port.
    pub host_port: u16,
    /// The container's address, which also chooses the family.
    pub to: IpAddr,
    /// The container's port.
    pub to_port: u16,
}

/// As users write it: `10.0.0.1:8080/tcp`.
impl fmt::Display for Publish {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            6 => "tcp",
            17 => "udp",
            _ => "sctp",
        };
        match self.host {
            Some(IpAddr::V6(host)) => write!(out, "[{host}]:{}/{protocol}", self.host_port),
            Some(IpAddr::V4(host)) => write!(out, "{host}:{}/{protocol}", self.host_port),
            None => write!(out, "{}/{protocol}", self.host_port),
        }
    }
}

/// The IP protocol number of `tcp`, `udp`, `sctp`.
pub fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "tcp" => Some(6),
        "udp" => Some(17),
        "sctp" => Some(132),
        _ => None,
    }
}

/// The rules of one name in the current network namespace.
#[derive(Debug)]
pub struct Filter {
    socket: Socket,
    table: &'static str,
    programs: Option<Programs>,
    off: bool,
}

impl Filter {
    /// Opens the tables that this host's rules are in; they may not exist yet.
    ///
    /// # Errors
    /// The kernel has no nfnetlink; a wrong or contradicting choice.
    pub fn open(state: &State) -> Result<Self> {
        let socket = Socket::netfilter()?;
        let choice = choice::current(state, &socket)?;
        Self::with(state, socket, choice)
    }

    /// As [`Self::open`], for a choice that has been made.
    ///
    /// # Errors
    /// `Unsupported` where a program is missing.
    pub fn with(state: &State, socket: Socket, choice: Choice) -> Result<Self> {
        let programs = match choice {
            Choice::Iptables | Choice::IptablesLegacy => Some(Programs::find(state.table, choice)?),
            Choice::Nftables | Choice::None => None,
        };
        Ok(Self { socket, table: state.table, programs, off: choice == Choice::None })
    }

    /// See [`Socket::close_at_exit`].
    pub fn close_at_exit(self) {
        self.socket.close_at_exit();
    }

    /// Makes the tables say exactly this, whatever they said before. Without zones the tables go.
    ///
    /// # Errors
    /// The kernel refuses the transaction; then nothing changed.
    pub fn rebuild(&self, zones: &[Zone], ports: &[Publish]) -> Result<()> {
        match &self.programs {
            _ if self.off => Ok(()),
            Some(programs) => programs.rebuild(zones, ports),
            None => self
                .socket
                .run(&whole(self.table, zones, ports))
                .context("write the bulkhead tables of nftables"),
        }
    }

    /// Writes the part of the rules that the networks decide; published ports stay.
    ///
    /// # Errors
    /// As [`Self::rebuild`].
    pub fn set_zones(&self, zones: &[Zone]) -> Result<()> {
        match &self.programs {
            _ if self.off => return Ok(()),
            Some(programs) => return programs.set_zones(zones),
            None => {}
        }
        let mut transaction = Transaction::new(self.table);
        for family in Family::BOTH {
            if family.is_used_by(zones) {
                table::create(&mut transaction, family);
                table::flush(&mut transaction, family);
                table::zones(&mut transaction, family, zones);
            } else if self.has_table(family)? {
                table::remove(&mut transaction, family);
            }
        }
        self.socket.run(&transaction.finish()).context("write the rules of the networks to nftables")
    }

    /// [`Self::remove_ports`] and [`Self::set_zones`] in one transaction: a second one would wait for the first one's
    /// grace period.
    ///
    /// # Errors
    /// As [`Self::rebuild`].
    pub fn remove_ports_and_set_zones(&self, ports: &[Publish], zones: &[Zone]) -> Result<bool> {
        if self.off || self.programs.is_some() {
            return Ok(self.remove_ports(ports)? && self.set_zones(zones).map(|()| true)?);
        }
        let mut transaction = Transaction::new(self.table);
        for family in Family::BOTH {
            if family.is_used_by(zones) {
                table::create(&mut transaction, family);
                table::flush(&mut transaction, family);
                table::zones(&mut transaction, family, zones);
                table::withdraw(&mut transaction, family, ports);
            } else if self.has_table(family)? {
                table::remove(&mut transaction, family);
            }
        }
        let done = present(self.socket.run(&transaction.finish())).context("withdraw ports from nftables")?;
        tracking::forget(&self.socket, ports)?;
        Ok(done)
    }

    /// Whether there is something to remove: even the removal of nothing makes the kernel wait for 20 ms.
    fn has_table(&self, family: Family) -> Result<bool> {
        let mut found = false;
        let asked = self.socket.query(&batch::look_for_table(family, self.table), |_, _| found = true);
        match asked {
            Err(err) if errno(&err) == Some(Errno::ENOENT) => Ok(false),
            other => other.map(|()| found).context("look for the tables of nftables"),
        }
    }

    /// Adds published ports. `false` where our tables are gone (somebody flushed all rules): the caller rebuilds them.
    ///
    /// # Errors
    /// As [`Self::rebuild`].
    pub fn add_ports(&self, ports: &[Publish]) -> Result<bool> {
        let added = match &self.programs {
            _ if self.off => return Ok(true),
            Some(programs) => programs.add_ports(ports)?,
            None => {
                let mut transaction = Transaction::new(self.table);
                for family in Family::BOTH {
                    table::publish(&mut transaction, family, ports);
                }
                match self.socket.run(&transaction.finish()) {
                    Err(err) if errno(&err) == Some(Errno::EEXIST) => {
                        // One of both families is told once.
                        let ports: BTreeSet<String> = ports.iter().map(ToString::to_string).collect();
                        let ports = Vec::from_iter(ports);
                        fault!(Busy, "cannot publish {}: another container has it", ports.join(", "))
                    }
                    done => present(done).context("publish ports in nftables")?,
                }
            }
        };
        tracking::forget_earlier(&self.socket, ports)?;
        Ok(added)
    }

    /// Removes published ports. `false` where at least one was not there: then nothing was removed.
    ///
    /// # Errors
    /// As [`Self::rebuild`].
    pub fn remove_ports(&self, ports: &[Publish]) -> Result<bool> {
        let removed = match &self.programs {
            _ if self.off => return Ok(true),
            Some(programs) => programs.remove_ports(ports)?,
            None => {
                let mut transaction = Transaction::new(self.table);
                for family in Family::BOTH {
                    table::withdraw(&mut transaction, family, ports);
                }
                present(self.socket.run(&transaction.finish())).context("withdraw ports from nftables")?
            }
        };
        // After the rules, or the next datagram would make its entry anew.
        tracking::forget(&self.socket, ports)?;
        Ok(removed)
    }
}

fn whole(table: &'static str, zones: &[Zone], ports: &[Publish]) -> Batch {
    let mut transaction = Transaction::new(table);
    for family in Family::BOTH {
        table::remove(&mut transaction, family);
        if family.is_used_by(zones) {
            table::create(&mut transaction, family);
            table::zones(&mut transaction, family, zones);
            table::publish(&mut transaction, family, ports);
        }
    }
    transaction.finish()
}

fn present(done: Result<()>) -> Result<bool> {
    match done {
        Err(err) if errno(&err) == Some(Errno::ENOENT) => Ok(false),
        other => other.map(|()| true),
    }
}
