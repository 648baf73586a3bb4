//! What `netctl up` is asked and what it answers (`STATE/net/attachments/<id>.json` holds both).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The network side of one container, as its supervisor asks for it on `netctl up`'s stdin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Format of this document: 1.
    pub version: u32,
    /// The container's name, which others resolve; empty for none.
    pub name: String,
    /// The host name inside; empty for the name or a short id.
    pub hostname: String,
    /// The domain that belongs to it in the hosts file; empty for none.
    pub domainname: String,
    /// The networks to join, in order; the first of those with the highest [`Attachment::gw_priority`] gives the default
    /// route. Empty means `bridge`.
    pub networks: Vec<Attachment>,
    /// Published ports.
    pub ports: Vec<Port>,
    /// DNS servers, search domains and options that replace the host's in resolv.conf.
    pub dns: Dns,
    /// Extra lines for the hosts file: name → address (`host-gateway` is resolved by netctl).
    pub extra_hosts: Vec<(String, String)>,
    /// Who owns a network namespace that is made: a new user namespace with these maps ([`Status::userns`]), whose root also
    /// owns the files; the caller's own without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_maps: Option<crate::ids::Maps>,
    /// With `id_maps`: that user namespace, where it exists already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<PathBuf>,
    /// On network `none`: no network namespace is made and mounted; the runtime makes one ([`Status::unnamed`]).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
    /// With `container:ID`: where that one's network namespace is, should it be such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins: Option<PathBuf>,
}

/// One network to join.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// A network's name, or `none`, `host`, `container:ID` (each of these only alone).
    pub network: String,
    /// Further names on this network.
    pub aliases: Vec<String>,
    /// A fixed address; else one is leased.
    pub ip: Option<IpAddr>,
    /// A fixed IPv6 address; else one is leased where the network has IPv6.
    pub ip6: Option<IpAddr>,
    /// A fixed MAC address, `aa:bb:cc:dd:ee:ff`.
    pub mac: Option<String>,
    /// The interface's name inside; else eth0, eth1, ….
    pub interface: Option<String>,
    /// Which network gives the default route and takes published ports in: the highest (docker's `gw-priority`).
    pub gw_priority: i64,
}

/// One published port; ranges are expanded by whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host address to listen on; `None` for all.
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
    /// The host's port; 0 asks netctl to pick a free one.
    pub host_port: u16,
    /// The last of the host's ports from `host_port` on of which the first free one is taken; 0 where it must be that one.
    #[serde(default, skip_serializing_if = "is_none")]
    pub host_port_last: u16,
    /// The container's port.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(default = "tcp")]
    pub protocol: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
const fn is_none(port: &u16) -> bool {
    *port == 0
}

fn tcp() -> String {
    "tcp".into()
}

/// resolv.conf by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// What `netctl up` made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Format of this document: 1.
    pub version: u32,
    /// The network namespace to join; `None` for the host's, or with `unnamed`.
    pub netns: Option<PathBuf>,
    /// A network namespace of its own with a loopback alone, which the runtime makes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unnamed: bool,
    /// The user namespace that was made as the owner of `netns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<PathBuf>,
    /// Files to bind-mount over `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`.
    pub hosts: Option<PathBuf>,
    /// See `hosts`.
    pub resolv_conf: Option<PathBuf>,
    /// See `hosts`.
    pub hostname_file: Option<PathBuf>,
    /// The host name inside.
    pub hostname: String,
    /// By network name.
    pub networks: BTreeMap<String, Endpoint>,
    /// The ports as published, with the picked host ports.
    pub ports: Vec<Port>,
}

/// A container's end on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The network's id.
    pub network_id: String,
    /// Interface name inside.
    pub interface: String,
    /// Address with prefix length, `10.90.0.2/16`.
    pub address: String,
    /// Address of the bridge; `None` on an internal network.
    pub gateway: Option<IpAddr>,
    /// IPv6 address with prefix length, where the network has IPv6.
    pub address6: Option<String>,
    /// IPv6 gateway.
    pub gateway6: Option<IpAddr>,
    /// MAC address.
    pub mac: String,
    /// Names it answers to, beside the container's.
    pub aliases: Vec<String>,
    /// See [`Attachment::gw_priority`].
    pub gw_priority: i64,
}
