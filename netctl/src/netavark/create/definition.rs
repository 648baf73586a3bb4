//! What podman says and keeps of a network, key by key.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::cidr::Cidr;

/// The whole request.
#[derive(Debug, Deserialize)]
pub struct Asked {
    /// The network, as far as it is decided.
    pub network: Network,
    /// What others have.
    pub used: Used,
    /// What podman's configuration says.
    pub options: Options,
}

/// What others have.
#[derive(Debug, Deserialize)]
pub struct Used {
    /// Bridges.
    pub interfaces: Vec<String>,
    /// Networks' names, each with its id.
    pub names: BTreeMap<String, String>,
    /// Subnets, also of the host.
    #[serde(deserialize_with = "nets")]
    pub subnets: Vec<Cidr>,
}

/// What podman's configuration says.
#[derive(Debug, Deserialize)]
pub struct Options {
    /// Where subnets are taken from.
    pub subnet_pools: Vec<Pool>,
    /// What bridges are called, before a number.
    #[serde(default)]
    pub default_interface_name: Option<String>,
    /// Whether a subnet may be nobody else's.
    pub check_used_subnets: bool,
}

/// Where subnets are taken from.
#[derive(Debug, Deserialize)]
pub struct Pool {
    /// All of it.
    #[serde(deserialize_with = "net")]
    pub base: Cidr,
    /// The prefix length of one subnet.
    pub size: u8,
}

/// A network, as podman writes it to its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    pub dns_enabled: bool,
    pub driver: String,
    pub id: String,
    pub internal: bool,
    pub ipv6_enabled: bool,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam_options: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnets: Option<Vec<Subnet>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_dns_servers: Option<Vec<IpAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// A subnet of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_range: Option<Range>,
    #[serde(deserialize_with = "net")]
    pub subnet: Cidr,
}

/// Where addresses are leased from; the bounds are texts as podman reads them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub end_ip: Option<String>,
    pub start_ip: Option<String>,
}

/// A route that containers get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    #[serde(deserialize_with = "net")]
    pub destination: Cidr,
    pub metric: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_type: Option<String>,
}

impl Network {
    /// Who chooses addresses; `None` where nothing is said.
    pub fn ipam_driver(&self) -> Option<&str> {
        self.ipam_options.as_ref()?.get("driver").map(String::as_str)
    }

    /// Says who chooses addresses.
    pub fn set_ipam_driver(&mut self, driver: &str) {
        self.ipam_options.get_or_insert_default().insert("driver".into(), driver.into());
    }

    /// How many subnets there are.
    pub fn subnet_count(&self) -> usize {
        self.subnets.as_ref().map_or(0, Vec::len)
    }
}

/// In the peer's own words where it is none.
fn net<'de, D: Deserializer<'de>>(from: D) -> Result<Cidr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("invalid IP address syntax: {text:?}")))
}

fn nets<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Cidr>, D::Error> {
    #[derive(Deserialize)]
    struct One(#[serde(deserialize_with = "net")] Cidr);
    Ok(Vec::<One>::deserialize(from)?.into_iter().map(|one| one.0).collect())
}
