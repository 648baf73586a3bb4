//! What a CNI runtime gives a plugin: the environment and a configuration on stdin.

use std::collections::BTreeMap;
use std::env;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::failure::{DECODING, INCOMPATIBLE_VERSION, INVALID_CONFIG, INVALID_ENVIRONMENT, fail};
use crate::cidr::Cidr;

/// What we speak, oldest first.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

const DEFAULT_BRIDGE: &str = "cni0";

/// A network configuration, the fields that a bridge, host-local or portmap plugin has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    /// Version of this document and of the result.
    pub cni_version: String,
    /// The network's name.
    pub name: String,
    /// Name of the bridge.
    pub bridge: String,
    /// The bridge has the gateway's address.
    pub is_gateway: bool,
    /// The container's default route is the bridge.
    pub is_default_gateway: bool,
    /// Replace another address that the bridge has.
    pub force_address: bool,
    /// Hide the containers behind the host.
    pub ip_masq: bool,
    /// `iptables` or `nftables`; ours is nftables whatever is said, which is why another is refused.
    pub ip_masq_backend: String,
    /// MTU of the container's link; 0 for the bridge's.
    pub mtu: u32,
    /// A container reaches itself through the host.
    pub hairpin_mode: bool,
    /// The bridge takes every frame.
    pub promisc_mode: bool,
    /// The VLAN that the container is in; 0 for none.
    pub vlan: i64,
    /// VLANs that it gets with tags.
    pub vlan_trunk: Vec<Trunk>,
    /// Whether it stays in the bridge's default VLAN as well, beside `vlan`; it does unless said otherwise.
    pub preserve_default_vlan: Option<bool>,
    /// Only frames from its own MAC address leave the container.
    pub macspoofchk: bool,
    /// Leave the interface down and without address.
    pub disable_container_interface: bool,
    /// Containers reach the bridge only.
    pub port_isolation: bool,
    /// portmap: hide who asks where the answer would else not come back. Always done.
    pub snat: Option<bool>,
    /// portmap: which packets.
    #[serde(rename = "conditionsV4")]
    pub conditions_v4: Vec<Value>,
    /// portmap: which packets.
    #[serde(rename = "conditionsV6")]
    pub conditions_v6: Vec<Value>,
    /// portmap: `iptables` or `nftables`.
    pub backend: String,
    /// portmap: the bit of the mark that has packets masqueraded. Not supported: no mark is used.
    pub mark_masq_bit: Option<Value>,
    /// portmap: a chain of somebody else's that sets that mark. Not supported.
    pub external_set_mark_chain: Option<Value>,
    /// Addresses.
    pub ipam: Ipam,
    /// Names.
    pub dns: Dns,
    /// What the runtime adds.
    pub runtime_config: RuntimeConfig,
    /// What the user adds.
    pub args: Args,
    /// The result of the plugin before.
    pub prev_result: Option<Value>,
    /// GC: who is still there.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub valid_attachments: Option<Vec<ValidAttachment>>,
}

/// One VLAN, or all from `min_id` to `max_id`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Trunk {
    /// The first.
    #[serde(rename = "minID")]
    pub min_id: Option<i64>,
    /// The last.
    #[serde(rename = "maxID")]
    pub max_id: Option<i64>,
    /// A single one.
    pub id: Option<i64>,
}

/// `ipam`: which plugin, and host-local's own keys.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Ipam {
    /// The plugin; empty for none.
    #[serde(rename = "type")]
    pub kind: String,
    /// One address is taken from each set.
    pub ranges: Vec<Vec<Range>>,
    /// The older way to say one range.
    #[serde(flatten)]
    pub single: Range,
    /// Routes that come with the address.
    pub routes: Vec<RouteSpec>,
    /// Where the leases are.
    pub data_dir: Option<PathBuf>,
    /// A file to take the names from.
    pub resolv_conf: Option<PathBuf>,
}

/// A range of addresses.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Range {
    /// Its subnet.
    pub subnet: Option<Cidr>,
    /// First address.
    pub range_start: Option<IpAddr>,
    /// Last address.
    pub range_end: Option<IpAddr>,
    /// Gateway; else the subnet's first address.
    pub gateway: Option<IpAddr>,
}

/// A route as results and configurations write it.
#[derive(Debug, Clone, Deserialize, serde::Serialize)]
pub struct RouteSpec {
    /// Where to.
    pub dst: Cidr,
    /// By whom; else the address's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Since 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

/// Resolver settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct Dns {
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Own domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// `runtimeConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuntimeConfig {
    /// Ports to publish.
    pub port_mappings: Vec<PortMapping>,
    /// Wanted addresses, with or without prefix length.
    pub ips: Vec<String>,
    /// Wanted MAC address.
    pub mac: String,
    /// Ranges that come before the configured ones.
    pub ip_ranges: Vec<Vec<Range>>,
    /// Resolver settings that the result shows instead of the network's.
    pub dns: Option<RuntimeDns>,
    /// What other plugins do. Declared as our capability it would be lost.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// `runtimeConfig.dns`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RuntimeDns {
    /// Servers.
    #[serde(alias = "Servers")]
    pub servers: Vec<String>,
    /// Search domains.
    #[serde(alias = "Searches")]
    pub searches: Vec<String>,
    /// Options.
    #[serde(alias = "Options")]
    pub options: Vec<String>,
}

/// One published port. containerd writes the fields' names as in Go, and plugins in Go read any.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The host's port; 0 publishes nothing.
    #[serde(default, alias = "HostPort")]
    pub host_port: u16,
    /// The container's.
    #[serde(alias = "ContainerPort")]
    pub container_port: u16,
    /// `tcp`, `udp`, `sctp`.
    #[serde(default, alias = "Protocol")]
    pub protocol: String,
    /// The host's address; empty for all.
    #[serde(default, rename = "hostIP", alias = "HostIP")]
    pub host_ip: String,
}

/// `args`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Args {
    /// By convention.
    pub cni: ArgsCni,
}

/// `args.cni`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ArgsCni {
    /// Wanted addresses.
    pub ips: Vec<String>,
    /// Wanted MAC address.
    pub mac: String,
}

/// One attachment that GC must keep.
#[derive(Debug, Clone, Deserialize)]
pub struct ValidAttachment {
    /// The container's id.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name.
    pub ifname: String,
}

impl Config {
    /// The bridge's name.
    pub fn bridge_name(&self) -> &str {
        if self.bridge.is_empty() { DEFAULT_BRIDGE } else { &self.bridge }
    }

    /// Reads and checks the document. Its raw form goes to delegated plugins.
    ///
    /// # Errors
    /// Not JSON, an unknown version, no name.
    pub fn parse(text: &str) -> Result<(Self, Value)> {
        let raw: Value = match serde_json::from_str(text) {
            Ok(raw @ Value::Object(_)) => raw,
            Ok(_) => fail!(DECODING, "network configuration: not a JSON object"),
            Err(err) => fail!(DECODING, "network configuration: {err}"),
        };
        let mut config: Self = match serde_json::from_value(raw.clone()) {
            Ok(config) => config,
            Err(err) => fail!(DECODING, "network configuration: {err}"),
        };
        if config.cni_version.is_empty() {
            config.cni_version = VERSIONS[0].into();
        }
        if !VERSIONS.contains(&config.cni_version.as_str()) {
            let known = VERSIONS.join(", ");
            fail!(INCOMPATIBLE_VERSION, "cniVersion {} is not supported: {known}", config.cni_version);
        }
        if !is_name(&config.name) {
            fail!(INVALID_CONFIG, "invalid network name {:?}", config.name);
        }
        Ok((config, raw))
    }

    /// Whether the document's version is at least that one of [`VERSIONS`].
    pub fn is_at_least(&self, version: &str) -> bool {
        let place = |wanted: &str| VERSIONS.iter().position(|known| *known == wanted);
        place(&self.cni_version) >= place(version)
    }
}

/// The environment's part.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_NETNS`; empty where DEL has none.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub interface: String,
    /// `CNI_ARGS`.
    pub args: BTreeMap<String, String>,
}

impl Environment {
    /// Reads and checks it.
    ///
    /// # Errors
    /// Number 4, naming the variable.
    pub fn read(needs_netns: bool) -> Result<Self> {
        let get = |name: &str| env::var(name).unwrap_or_default();
        let (container, netns, interface) = (get("CNI_CONTAINERID"), get("CNI_NETNS"), get("CNI_IFNAME"));
        if !is_name(&container) {
            fail!(INVALID_ENVIRONMENT, "CNI_CONTAINERID: missing or invalid: {container:?}");
        }
        let plain = !interface.contains(['/', ':']) && !interface.contains(char::is_whitespace);
        if interface.is_empty() || interface.len() > 15 || !plain || interface == "." || interface == ".." {
            fail!(INVALID_ENVIRONMENT, "CNI_IFNAME: missing or invalid: {interface:?}");
        }
        if needs_netns && netns.is_empty() {
            fail!(INVALID_ENVIRONMENT, "CNI_NETNS: missing");
        }
        let mut args = BTreeMap::new();
        for pair in get("CNI_ARGS").split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                fail!(INVALID_ENVIRONMENT, "CNI_ARGS: {pair:?} is not KEY=VALUE");
            };
            args.insert(key.into(), value.into());
        }
        Ok(Self { container, netns, interface, args })
    }
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most as long as a file name may become.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.len() <= 110
        && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::failure::Failure;

    fn code(text: &str) -> u32 {
        Config::parse(text).unwrap_err().downcast_ref::<Failure>().unwrap().code
    }

    #[test]
    fn what_is_wrong_has_its_number() {
        assert_eq!(code("{nonsense"), DECODING);
        assert_eq!(code("[]"), DECODING);
        assert_eq!(code(r#"{"cniVersion":"9.9.9","name":"n"}"#), INCOMPATIBLE_VERSION);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"../n"}"#), INVALID_CONFIG);
        assert_eq!(code(r#"{"cniVersion":"1.0.0","name":"n","mtu":"x"}"#), DECODING);
    }

    #[test]
    fn versions_are_in_order() {
        let (config, _) = Config::parse(r#"{"cniVersion":"1.0.0","name":"n","unknown":{}}"#).unwrap();
        assert!(config.is_at_least("0.4.0") && !config.is_at_least("1.1.0"));
        assert_eq!(Config::parse(r#"{"name":"n"}"#).unwrap().0.cni_version, "0.1.0");
    }

    #[test]
    fn fields_are_named_as_containerd_names_them() {
        let text = r#"{"portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
            "dns": {"Servers": ["9.9.9.9"], "Searches": ["a"], "Options": []}}"#;
        let read: RuntimeConfig = serde_json::from_str(text).unwrap();
        let port = &read.port_mappings[0];
        assert_eq!((port.host_port, port.container_port, port.protocol.as_str()), (8080, 80, "tcp"));
        assert_eq!(read.dns.unwrap().servers, ["9.9.9.9"]);
    }
}
