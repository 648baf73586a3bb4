//! An address with a prefix length, IPv4 or IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use contracts::fault::{Fault, Kind};
use serde::{Deserialize, Serialize};

/// `10.90.0.2/16`: an address and the subnet it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    /// The address, host bits included.
    pub address: IpAddr,
    /// Prefix length, at most 32 or 128.
    pub prefix: u8,
}

impl FromStr for Cidr {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::new(Kind::Usage, format!("invalid subnet {text:?}: not ADDRESS/PREFIX"));
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > bits(address) {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

impl TryFrom<String> for Cidr {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

/// 32 or 128.
pub fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn value(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn address(like: IpAddr, value: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(value & 0xffff_ffff).unwrap_or(0)).into(),
        IpAddr::V6(_) => Ipv6Addr::from(value).into(),
    }
}

impl Cidr {
    fn host_mask(self) -> u128 {
        let host = bits(self.address) - self.prefix;
        1u128.checked_shl(u32::from(host)).map_or(u128::MAX, |size| size - 1)
    }

    /// All addresses of the family of `like`: where default routes lead.
    pub fn any(like: IpAddr) -> Self {
        Self { address: address(like, 0), prefix: 0 }
    }

    /// The first address of the subnet.
    pub fn first(self) -> IpAddr {
        address(self.address, value(self.address) & !self.host_mask())
    }

    /// The last address of the subnet (IPv4: the broadcast address).
    pub fn last(self) -> IpAddr {
        address(self.address, value(self.address) | self.host_mask())
    }

    /// The same subnet without host bits.
    pub fn subnet(self) -> Self {
        Self { address: self.first(), ..self }
    }

    /// Another address with this prefix length.
    pub fn with(self, address: IpAddr) -> Self {
        Self { address, ..self }
    }

    /// Whether `address` is in the subnet.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.with(address).first() == self.first()
    }

    /// Whether the two subnets share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.first()) || other.contains(self.first())
    }

    /// How many addresses there are, capped.
    pub fn size(self) -> u128 {
        self.host_mask().saturating_add(1)
    }

    /// The address `offset` after the first.
    pub fn nth(self, offset: u128) -> IpAddr {
        address(self.address, (value(self.address) & !self.host_mask()).wrapping_add(offset))
    }

    /// How far `address` is from the subnet's first.
    pub fn offset(self, address: IpAddr) -> u128 {
        value(address).wrapping_sub(value(self.first()))
    }
}

/// Subnets that have no address in common.
///
/// # Errors
/// The first two that have.
pub fn apart(subnets: &[Cidr]) -> Result<(), Fault> {
    for (at, one) in subnets.iter().enumerate() {
        for other in &subnets[at + 1..] {
            if one == other {
                return Err(Fault::new(Kind::Usage, format!("duplicate subnet defined: {one}")));
            }
            if one.overlaps(*other) {
                return Err(Fault::new(Kind::Usage, format!("overlapping subnets: {one} and {other}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_overlaps() {
        let net: Cidr = "10.90.3.4/16".parse().unwrap();
        assert_eq!(net.subnet().to_string(), "10.90.0.0/16");
        assert_eq!(net.last().to_string(), "10.90.255.255");
        assert_eq!(net.nth(2).to_string(), "10.90.0.2");
        assert_eq!(net.offset("10.90.1.0".parse().unwrap()), 256);
        assert!(net.overlaps("10.0.0.0/8".parse().unwrap()));
        assert!(!net.overlaps("10.91.0.0/16".parse().unwrap()));
        assert!(!net.contains("fd00::1".parse().unwrap()));
        let all: Cidr = "::/0".parse().unwrap();
        assert!(all.contains("fd00::1".parse().unwrap()) && all.size() == u128::MAX);
    }

    #[test]
    fn malformed_ones_are_refused() {
        for bad in ["", "bad", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
