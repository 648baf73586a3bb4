//! `STORE/networks/<name>.json`: what a network is, whether it is up or not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use contracts::fault;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cidr::Cidr;
use crate::firewall::{Isolation, Zone};

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
    /// `bridge` or `macvlan`.
    pub driver: String,
    /// The bridge's interface name (macvlan: the parent's).
    pub interface: String,
    /// At most one per address family.
    pub subnets: Vec<Subnet>,
    /// No way out of it.
    pub internal: bool,
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

/// Options we know, each under the names that users write.
const OPTIONS: [(&str, &[&str]); 6] = [
    ("mtu", &["mtu", "com.docker.network.driver.mtu"]),
    ("icc", &["icc", "com.docker.network.bridge.enable_icc"]),
    ("masquerade", &["masquerade", "com.docker.network.bridge.enable_ip_masquerade"]),
    ("name", &["com.docker.network.bridge.name"]),
    ("mode", &["gateway_mode", "com.docker.network.bridge.gateway_mode_ipv4"]),
    ("parent", &["parent"]),
];

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

    fn option(&self, name: &str) -> Option<&str> {
        let (_, spellings) = OPTIONS.iter().find(|(known, _)| *known == name)?;
        spellings.iter().find_map(|spelling| self.options.get(*spelling)).map(String::as_str)
    }

    fn switch(&self, name: &str) -> Result<bool> {
        match self.option(name) {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => fault!(Usage, "network option {name}={other}: not true or false"),
        }
    }

    /// Reads every option once, so that a wrong or unknown one is refused when the network is made.
    ///
    /// # Errors
    /// `Usage`, naming the option.
    pub fn check_options(&mut self) -> Result<()> {
        for key in self.options.keys() {
            if !OPTIONS.iter().any(|(_, spellings)| spellings.contains(&key.as_str())) {
                fault!(Usage, "unknown option {key} for a {} network", self.driver);
            }
        }
        self.mtu()?;
        self.icc()?;
        self.zone()?;
        if let Some(name) = self.option("name") {
            let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
            if name.is_empty() || name.len() > 15 || !plain || name == "." || name == ".." {
                fault!(Usage, "invalid bridge name {name:?}: 1 to 15 characters without / : or spaces");
            }
            self.interface = name.into();
        }
        if self.driver == "macvlan" {
            let Some(parent) = self.option("parent") else {
                fault!(Usage, "a macvlan network needs --opt parent=INTERFACE");
            };
            if parent == "lo" {
                fault!(Usage, "loopback interface is not a valid macvlan parent link");
            }
            self.interface = parent.into();
        }
        Ok(())
    }

    /// The MTU asked for.
    ///
    /// # Errors
    /// `Usage` where it is no number a link can have.
    pub fn mtu(&self) -> Result<Option<u32>> {
        let Some(text) = self.option("mtu") else { return Ok(None) };
        match text.parse() {
            Ok(mtu @ 68..=65535) => Ok(Some(mtu)),
            _ => fault!(Usage, "network option mtu={text}: not a number from 68 to 65535"),
        }
    }

    /// Whether containers on it reach each other directly.
    ///
    /// # Errors
    /// `Usage` where the option is neither true nor false.
    pub fn icc(&self) -> Result<bool> {
        self.switch("icc")
    }

    /// What the firewall needs to know.
    ///
    /// # Errors
    /// `Usage` for a wrong option.
    pub fn zone(&self) -> Result<Zone> {
        let (nat, routed) = match self.option("mode") {
            None | Some("nat") => (true, false),
            Some("nat-unprotected") => (true, true),
            Some("routed") => (false, true),
            Some(other) => {
                fault!(Usage, "network option gateway_mode={other}: nat, nat-unprotected or routed")
            }
        };
        Ok(Zone {
            bridge: self.interface.clone(),
            subnets: self.subnets.iter().map(|subnet| subnet.subnet).collect(),
            internal: self.internal,
            masquerade: nat && self.switch("masquerade")?,
            routed,
            names: if self.dns { self.gateways() } else { Vec::new() },
            isolation: Isolation::No,
        })
    }

    /// The addresses that the DNS server listens on.
    pub fn gateways(&self) -> Vec<IpAddr> {
        if self.driver != "bridge" {
            return Vec::new();
        }
        self.subnets.iter().filter_map(|subnet| subnet.gateway).collect()
    }

    /// As `docker network inspect` shows it, `containers` filled in by the caller.
    pub fn inspect(&self, containers: Value) -> Value {
        let config: Vec<Value> = self.subnets.iter().map(inspect_subnet).collect();
        let has = |v4| self.subnets.iter().any(|subnet| subnet.subnet.address.is_ipv4() == v4);
        json!({
            "Name": self.name, "Id": self.id, "Created": self.created, "Scope": "local", "Driver": self.driver,
            "EnableIPv4": has(true), "EnableIPv6": has(false),
            "IPAM": {"Driver": "default", "Options": {}, "Config": config},
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_when_the_network_is_made() {
        for (key, value) in
            [("mtu", "1"), ("mtu", "x"), ("icc", "maybe"), ("gateway_mode", "x"), ("nosuch", "")]
        {
            let mut network = Network::new("n").unwrap();
            network.options.insert(key.into(), value.into());
            assert!(network.check_options().is_err(), "{key}={value}");
        }
        let mut network = Network::new("n").unwrap();
        network.options.insert("com.docker.network.bridge.name".into(), "br9".into());
        network.check_options().unwrap();
        assert_eq!(network.interface, "br9");
    }
}
