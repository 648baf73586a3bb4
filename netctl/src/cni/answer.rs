//! Results, in the shape of each version of the specification.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::config::{Dns, RouteSpec};
use super::failure::{DECODING, fail};
use crate::cidr::Cidr;

/// What a plugin did, in the form of 1.1.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Links made or found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteSpec>,
    /// Resolver settings.
    pub dns: Dns,
}

/// A link.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU; since 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace it is in; empty for the host's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// An address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ip {
    /// With prefix length.
    pub address: Cidr,
    /// Its gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Which of the interfaces has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

impl Answer {
    /// Reads a result of any version.
    ///
    /// # Errors
    /// Number 6.
    pub fn parse(value: &Value) -> Result<Self> {
        let mut value = value.clone();
        for key in ["ip4", "ip6"] {
            let Some(part) = value.get(key).cloned() else { continue };
            let ip = json!({"address": part["ip"], "gateway": part["gateway"]});
            let routes = part["routes"].as_array().cloned().unwrap_or_default();
            append(&mut value, "ips", vec![ip]);
            append(&mut value, "routes", routes);
        }
        match serde_json::from_value(value) {
            Ok(answer) => Ok(answer),
            Err(err) => fail!(DECODING, "result: {err}"),
        }
    }

    /// The document in that version.
    pub fn document(&self, version: &str) -> Value {
        let mut shown = self.clone();
        if version != "1.1.0" {
            for interface in &mut shown.interfaces {
                interface.mtu = None;
            }
            for route in &mut shown.routes {
                *route =
                    RouteSpec { mtu: None, advmss: None, priority: None, table: None, scope: None, ..*route };
            }
        }
        let mut document = if version.starts_with("0.1.") || version.starts_with("0.2.") {
            shown.oldest()
        } else {
            serde_json::to_value(&shown).unwrap_or_default()
        };
        if version.starts_with("0.3.") || version.starts_with("0.4.") {
            for (place, ip) in shown.ips.iter().enumerate() {
                document["ips"][place]["version"] =
                    json!(if ip.address.address.is_ipv4() { "4" } else { "6" });
            }
        }
        document["cniVersion"] = json!(version);
        document
    }

    /// One address per family, each with its routes.
    fn oldest(&self) -> Value {
        let mut document = Map::new();
        for (key, v4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = self.ips.iter().find(|ip| ip.address.address.is_ipv4() == v4) else { continue };
            let routes: Vec<&RouteSpec> =
                self.routes.iter().filter(|route| route.dst.address.is_ipv4() == v4).collect();
            let mut part = json!({"ip": ip.address, "routes": routes});
            if let Some(gateway) = ip.gateway {
                part["gateway"] = json!(gateway);
            }
            document.insert(key.into(), part);
        }
        document.insert("dns".into(), json!(self.dns));
        document.into()
    }
}

fn append(value: &mut Value, key: &str, more: Vec<Value>) {
    if let Some(object) = value.as_object_mut() {
        let list = object.entry(key).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.extend(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Answer {
        let json = json!({
            "interfaces": [{"name": "eth0", "sandbox": "/x", "mtu": 1400}],
            "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 0}, {"address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0", "priority": 5}],
        });
        Answer::parse(&json).unwrap()
    }

    #[test]
    fn each_version_has_its_shape() {
        let at = |version| sample().document(version);
        assert_eq!(at("1.1.0")["interfaces"][0]["mtu"], 1400);
        assert!(at("1.0.0")["interfaces"][0].get("mtu").is_none());
        assert!(at("1.0.0")["routes"][0].get("priority").is_none());
        assert_eq!(at("0.4.0")["ips"][1]["version"], "6");
        assert_eq!(at("0.2.0")["ip4"]["gateway"], "10.0.0.1");
        assert_eq!(at("0.2.0")["ip6"]["ip"], "fd00::2/64");
    }

    #[test]
    fn the_oldest_shape_is_read_back() {
        let back = Answer::parse(&sample().document("0.2.0")).unwrap();
        assert_eq!(back.ips.len(), 2);
        assert_eq!(back.routes.len(), 1);
    }
}
