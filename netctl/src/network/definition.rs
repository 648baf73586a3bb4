//! `STORE/networks/<name>.json`: what a network is, whether it is up or not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::peers::Backend;
use crate::cidr::Cidr;
use crate::firewall::Zone;

/// One network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Format of this document: 1.
    pub version: u32,
    /// Its name, also the file's.
    pub name: String,
    /// 64 hex digits.
    pub id: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// `bridge`, `overlay`, `macvlan` or `ipvlan`.
    pub driver: String,
    /// The bridge's interface name (macvlan and ipvlan: the parent's).
    pub interface: String,
    /// At most one per address family.
    pub subnets: Vec<Subnet>,
    /// No way out of it.
    pub internal: bool,
    /// Whether a DHCP server on it gives out the addresses.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dhcp: bool,
    /// Whether names are resolved on it.
    pub dns: bool,
    /// Driver options, by docker's or podman's names.
    pub options: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
}

/// A subnet and what may be leased from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The subnet, without host bits.
    pub subnet: Cidr,
    /// The bridge's address; the default route of those on it.
    pub gateway: Option<IpAddr>,
    /// Leases come from here; else from the whole subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Cidr>,
    /// Addresses that others have: name → address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl Subnet {
    /// A subnet whose gateway is its first host.
    pub fn plain(subnet: Cidr) -> Self {
        let subnet = subnet.subnet();
        Self { subnet, gateway: Some(subnet.nth(1)), range: None, auxiliary: BTreeMap::new() }
    }
}

impl Network {
    /// A network with a new id.
    ///
    /// # Errors
    /// The kernel has no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let id: String = random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            version: 1,
            name: name.into(),
            interface: format!("br-{}", &id[..12]),
            id,
            created: jiff::Timestamp::now().to_string(),
            driver: "bridge".into(),
            dns: true,
            ..Self::default()
        })
    }

    /// The network that is used where none is named.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn default_bridge(subnet: Cidr) -> Result<Self> {
        let interface = "bulkhead0".into();
        Ok(Self { interface, subnets: vec![Subnet::plain(subnet)], ..Self::new(super::DEFAULT)? })
    }

    /// `host` or `none` as lists show them.
    pub fn mode(name: &str) -> Self {
        let driver = if name == "none" { "null" } else { name };
        let id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        Self {
            version: 1,
            name: name.into(),
            id: format!("{id:0<64}"),
            driver: driver.into(),
            ..Self::default()
        }
    }

    /// What the firewall needs to know.
    ///
    /// # Errors
    /// `Usage` for a wrong option.
    pub fn zone(&self) -> Result<Zone> {
        let (v4, v6) = (self.nat(true)?, self.nat(false)?);
        let (mut source, mut source6) = (None, None);
        for address in [self.hides_behind(true)?, self.hides_behind(false)?].into_iter().flatten() {
            match address {
                IpAddr::V4(address) => source = Some(address),
                IpAddr::V6(address) => source6 = Some(address),
            }
        }
        Ok(Zone {
            bridge: self.interface.clone(),
            subnets: self.subnets.iter().map(|subnet| subnet.subnet).collect(),
            internal: self.internal,
            masquerade: v4.masquerade,
            routed: v4.routed,
            v6: Some(v6).filter(|v6| *v6 != v4),
            names: if self.dns { self.gateways() } else { Vec::new() },
            names_port: 0,
            source,
            source6,
            isolation: self.isolation()?,
            closed: !self.icc()?,
            trusted: self.trusted(),
            // Other hosts send on what is for our range; what is theirs of the subnet comes by routing.
            partners: match self.is_routed_between_hosts() {
                true => self.subnets.iter().map(|subnet| subnet.subnet).collect(),
                false => Vec::new(),
            },
        })
    }

    fn is_routed_between_hosts(&self) -> bool {
        self.driver == "overlay" && matches!(self.backend(), Ok(Backend::Routes))
    }

    /// The addresses that are on one wire with the containers of `subnet`: all of it, but where hosts route to each
    /// other, this host's range.
    pub fn on_wire(&self, subnet: &Subnet) -> Cidr {
        subnet.range.filter(|_| self.is_routed_between_hosts()).unwrap_or(subnet.subnet)
    }

    /// The bridge's own addresses, which the DNS server listens on.
    pub fn gateways(&self) -> Vec<IpAddr> {
        let own = |subnet: &&Subnet| self.is_addressed(subnet.subnet.address.is_ipv4()).unwrap_or(false);
        self.subnets.iter().filter(own).filter_map(|subnet| subnet.gateway).collect()
    }

    /// Who gives out addresses.
    pub fn ipam(&self) -> &'static str {
        match (self.dhcp, self.subnets.is_empty()) {
            (true, _) => "dhcp",
            (false, true) => "none",
            (false, false) => "default",
        }
    }

    /// As `docker network inspect` shows it, `containers` filled in by the caller.
    pub fn inspect(&self, containers: Value) -> Value {
        let config: Vec<Value> = self.subnets.iter().map(inspect_subnet).collect();
        let has = |v4| self.subnets.iter().any(|subnet| subnet.subnet.address.is_ipv4() == v4);
        json!({
            "Name": self.name, "Id": self.id, "Created": self.created, "Scope": "local", "Driver": self.driver,
            "EnableIPv4": has(true), "EnableIPv6": has(false),
            "IPAM": {"Driver": self.ipam(), "Options": {}, "Config": config},
            "Internal": self.internal, "Attachable": false, "Ingress": false,
            "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Interface": self.interface,
            "Containers": containers, "Options": self.options, "Labels": self.labels,
        })
    }
}

fn inspect_subnet(subnet: &Subnet) -> Value {
    let mut shown = json!({"Subnet": subnet.subnet});
    if let Some(gateway) = subnet.gateway {
        shown["Gateway"] = json!(gateway);
    }
    if let Some(range) = subnet.range {
        shown["IPRange"] = json!(range);
    }
    if !subnet.auxiliary.is_empty() {
        shown["AuxiliaryAddresses"] = json!(subnet.auxiliary);
    }
    shown
}

/// Random bytes for ids and MAC addresses.
///
/// # Errors
/// The kernel has none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    use std::io::Read as _;
    let mut bytes = [0; N];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes)
}
