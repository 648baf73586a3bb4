//! Subnets for networks that name none: from our own pools, never one that the host routes or another network has.

use anyhow::Result;
use contracts::fault;

use super::{Subnet, all};
use crate::cidr::Cidr;
use crate::netlink::{link, socket::Socket};
use crate::state::State;

/// How large a subnet to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// `10.90.0.0/16` where it is free: for the default network.
    Default,
    /// A /24 of `10.91.0.0` to `10.127.255.0`.
    Network,
}

/// The first free subnet.
///
/// # Errors
/// `Busy` where all are taken.
pub fn choose(state: &State, size: Size) -> Result<Cidr> {
    let mut taken = link::routed(&Socket::route()?)?;
    taken.extend(all(state)?.iter().flat_map(|network| &network.subnets).map(|subnet| subnet.subnet));
    let candidates: Box<dyn Iterator<Item = String>> = match size {
        Size::Default => Box::new((90..=127).map(|second| format!("10.{second}.0.0/16"))),
        Size::Network => {
            Box::new((91..=127).flat_map(|b| (0..=255).map(move |c| format!("10.{b}.{c}.0/24"))))
        }
    };
    for candidate in candidates {
        let candidate: Cidr = candidate.parse()?;
        if !taken.iter().any(|taken| taken.overlaps(candidate)) {
            return Ok(candidate);
        }
    }
    fault!(Busy, "all default subnets are in use: name one with --subnet")
}

/// A random unique local IPv6 subnet (RFC 4193).
///
/// # Errors
/// The kernel has no randomness.
pub fn choose_v6() -> Result<Cidr> {
    let random: [u8; 7] = super::definition::random()?;
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..8].copy_from_slice(&random);
    Ok(Cidr { address: octets.into(), prefix: 64 })
}

/// Refuses a subnet that another network has or whose parts do not fit together.
///
/// # Errors
/// `Busy` for an overlap, `Usage` for a gateway or range outside.
pub fn check(state: &State, wanted: &Subnet) -> Result<()> {
    for network in all(state)? {
        if let Some(other) = network.subnets.iter().find(|other| other.subnet.overlaps(wanted.subnet)) {
            let (name, other) = (&network.name, other.subnet);
            fault!(Busy, "subnet {} overlaps with {other} of network {name}", wanted.subnet);
        }
    }
    let named = wanted.auxiliary.values().copied().chain(wanted.gateway);
    for address in named {
        if !wanted.subnet.contains(address) {
            fault!(Usage, "address {address} is not in subnet {}", wanted.subnet);
        }
    }
    if let Some(range) = wanted
        .range
        .filter(|range| !wanted.subnet.contains(range.first()) || range.prefix < wanted.subnet.prefix)
    {
        fault!(Usage, "range {range} is not in subnet {}", wanted.subnet);
    }
    if wanted.subnet.size() < 4 {
        fault!(Usage, "subnet {} is too small for a gateway and a container", wanted.subnet);
    }
    Ok(())
}
