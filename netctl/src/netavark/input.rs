//! What podman gives on stdin. Unknown keys are other versions' and tolerated.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Result, bail};
use contracts::fault;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::cidr::{self, Cidr};
use crate::firewall::{Publish, protocol_number};
use crate::netlink::route::Fate;

/// The whole document.
#[derive(Debug, Clone, Deserialize)]
pub struct Input {
    /// The container's id.
    pub container_id: String,
    /// Its name.
    #[serde(default)]
    pub container_name: String,
    /// Its own name servers.
    #[serde(default)]
    pub dns_servers: Option<Vec<IpAddr>>,
    /// The host name inside.
    #[serde(default)]
    pub container_hostname: Option<String>,
    /// What it wants of each network, by its name: a map (then in order of the interfaces' names), or since netavark 2
    /// a list with names in it. The first has the published ports.
    #[serde(deserialize_with = "by_name")]
    pub networks: Vec<(String, Value)>,
    /// What each network is.
    pub network_info: BTreeMap<String, Value>,
    /// Published ports.
    #[serde(default)]
    pub port_mappings: Option<Vec<PortMapping>>,
}

/// What one container wants of one network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    /// The interface's name inside.
    pub interface_name: String,
    /// Its addresses, which podman has chosen.
    pub static_ips: Option<Vec<IpAddr>>,
    /// Further names.
    pub aliases: Option<Vec<String>>,
    /// Its MAC address.
    pub static_mac: Option<String>,
    /// Options of this attachment.
    pub options: Option<BTreeMap<String, String>>,
}

/// One network.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan`, or a plugin.
    pub driver: String,
    /// The bridge, or the parent.
    pub network_interface: Option<String>,
    /// No way out.
    pub internal: bool,
    /// Whether names are answered.
    pub dns_enabled: bool,
    /// Whom to ask for other names.
    pub network_dns_servers: Option<Vec<IpAddr>>,
    /// Subnets.
    pub subnets: Option<Vec<Subnet>>,
    /// Routes beside the default one.
    pub routes: Option<Vec<StaticRoute>>,
    /// Who chooses addresses.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Driver options.
    pub options: Option<BTreeMap<String, String>>,
}

/// A subnet.
#[derive(Debug, Clone, Deserialize)]
pub struct Subnet {
    /// The subnet.
    pub subnet: Cidr,
    /// The bridge's address.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, Deserialize)]
pub struct StaticRoute {
    /// Where to.
    pub destination: Cidr,
    /// By whom.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// `unicast`, or one of those that lead nowhere.
    #[serde(default)]
    pub route_type: String,
    /// Metric; else the network's.
    #[serde(default)]
    pub metric: Option<u32>,
}

impl StaticRoute {
    /// What it does with packets; only those that go on have a gateway.
    ///
    /// # Errors
    /// An unknown type, a gateway too many or too few.
    pub fn fate(&self) -> Result<Fate> {
        let Some(fate) = Fate::named(&self.route_type) else {
            bail!("route {}: unknown type {:?}", self.destination, self.route_type)
        };
        match (fate, self.gateway) {
            (Fate::Unicast, None) => bail!("route {} requires a gateway", self.destination),
            (Fate::Unicast, Some(_)) | (_, None) => Ok(fate),
            (_, Some(_)) => {
                bail!("route {} must not have a gateway for type {}", self.destination, self.route_type)
            }
        }
    }
}

fn by_name<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, Value)>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Networks {
        Map(BTreeMap<String, Value>),
        List(Vec<Value>),
    }
    match Networks::deserialize(from)? {
        Networks::Map(map) => {
            let mut networks: Vec<(String, Value)> = map.into_iter().collect();
            networks.sort_by(|(_, one), (_, other)| {
                one["interface_name"].as_str().cmp(&other["interface_name"].as_str())
            });
            Ok(networks)
        }
        Networks::List(list) => {
            let named = |one: Value| match one["name"].as_str().map(String::from) {
                Some(name) => Ok((name, one)),
                None => Err(serde::de::Error::custom("networks: one has no name")),
            };
            list.into_iter().map(named).collect()
        }
    }
}

/// Published ports.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address; empty for all.
    #[serde(default)]
    pub host_ip: String,
    /// The first port of the host.
    pub host_port: u16,
    /// The first port of the container.
    pub container_port: u16,
    /// How many.
    #[serde(default)]
    pub range: u16,
    /// One or several, with commas.
    pub protocol: String,
}

impl Info {
    /// A driver option.
    pub fn option(&self, name: &str) -> Option<&str> {
        let value = self.options.as_ref()?.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// A number; 0 is as good as none.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, name: &str) -> Result<Option<u32>> {
        let Some(text) = self.option(name) else { return Ok(None) };
        match text.parse() {
            Ok(0) => Ok(None),
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("unable to parse \"{name}\": invalid digit found in string"),
        }
    }

    /// A switch.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub fn switch(&self, name: &str) -> Result<bool> {
        match self.option(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => bail!("unable to parse \"{name}\": {other:?} is neither true nor false"),
        }
    }

    /// The host's address that packets on their way out hide behind.
    ///
    /// # Errors
    /// It is no address of that family.
    pub fn address<T: std::str::FromStr<Err = std::net::AddrParseError>>(
        &self,
        name: &str,
    ) -> Result<Option<T>> {
        let Some(text) = self.option(name) else { return Ok(None) };
        match text.parse() {
            Ok(address) => Ok(Some(address)),
            Err(err) => bail!("unable to parse \"{name}\": {err}"),
        }
    }

    /// The VLAN that its containers are in on the bridge.
    ///
    /// # Errors
    /// There is none of that number.
    pub fn vlan(&self) -> Result<Option<u32>> {
        match self.number("vlan")? {
            Some(4095..) => bail!("vlan must be between 0 and 4094"),
            vlan => Ok(vlan),
        }
    }

    /// Who chooses addresses.
    pub fn ipam_driver(&self) -> Option<&str> {
        self.ipam_options.as_ref()?.get("driver").map(String::as_str)
    }

    /// Whether the addresses come from podman, as opposed to none at all.
    ///
    /// # Errors
    /// `Unsupported` for a driver that nobody knows.
    pub fn has_addresses(&self) -> Result<bool> {
        match self.ipam_driver() {
            None | Some("host-local" | "") => Ok(true),
            Some("none" | "dhcp") => Ok(false),
            Some(other) => {
                fault!(Unsupported, "unsupported ipam driver {other}")
            }
        }
    }

    /// Each wanted address with its subnet's prefix length and gateway.
    ///
    /// # Errors
    /// An address is in none of the subnets.
    pub fn addresses(&self, wanted: &Wanted) -> Result<Vec<(Cidr, Option<IpAddr>)>> {
        if !self.has_addresses()? {
            return Ok(Vec::new());
        }
        let subnets = self.subnets.as_deref().unwrap_or_default();
        if subnets.is_empty() {
            // An unmanaged bridge whose network podman knows nothing about.
            return Ok(Vec::new());
        }
        let Some(addresses) = &wanted.static_ips else { bail!("no static ips provided") };
        cidr::apart(&subnets.iter().map(|subnet| subnet.subnet).collect::<Vec<_>>())?;
        let found = addresses.iter().map(|address| {
            let subnet = subnets.iter().find(|subnet| subnet.subnet.contains(*address));
            match subnet {
                Some(subnet) => Ok((subnet.subnet.with(*address), subnet.gateway)),
                None => bail!(
                    "network {}: not all static IPs matched a subnet: no subnet contains the address {address}",
                    self.name
                ),
            }
        });
        found.collect()
    }
}

/// Ports, one by one, sent to these addresses.
///
/// # Errors
/// An unknown protocol, a range beyond the last port.
pub fn publish(mappings: &[PortMapping], to: &[IpAddr]) -> Result<Vec<Publish>> {
    let mut found = Vec::new();
    for mapping in mappings {
        let host: Option<IpAddr> = match mapping.host_ip.as_str() {
            "" => None,
            text => match text.parse() {
                Ok(address) => Some(address),
                Err(_) => bail!("invalid host ip {text:?} provided for port {}", mapping.host_port),
            },
        };
        for name in mapping.protocol.split(',') {
            let Some(protocol) = protocol_number(name) else {
                bail!("unknown port protocol {name:?}");
            };
            for step in 0..mapping.range.max(1) {
                let ports = (mapping.host_port.checked_add(step), mapping.container_port.checked_add(step));
                let (Some(host_port), Some(to_port)) = ports else {
                    bail!("port range from {} is larger than 65535", mapping.host_port);
                };
                for to in
                    to.iter().copied().filter(|to| host.is_none_or(|host| host.is_ipv4() == to.is_ipv4()))
                {
                    let host = host.filter(|host| !host.is_unspecified());
                    found.push(Publish { host, protocol, host_port, to, to_port });
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_protocols_are_taken_apart() {
        let mapping = |text: &str| vec![serde_json::from_str::<PortMapping>(text).unwrap()];
        let to = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let all =
            mapping(r#"{"host_ip":"","host_port":8000,"container_port":80,"range":3,"protocol":"tcp,udp"}"#);
        assert_eq!(publish(&all, &to).unwrap().len(), 12);
        let one =
            mapping(r#"{"host_ip":"127.0.0.1","host_port":1,"container_port":1,"range":0,"protocol":"tcp"}"#);
        assert_eq!(publish(&one, &to).unwrap().len(), 1);
        let over = mapping(r#"{"host_port":65535,"container_port":1,"range":2,"protocol":"tcp"}"#);
        assert!(publish(&over, &to).is_err());
        let odd = mapping(r#"{"host_port":1,"container_port":1,"protocol":"icmp"}"#);
        assert!(publish(&odd, &to).is_err());
    }
}
