//! Flags and help.

use std::net::IpAddr;

use clap::{Args, Parser, Subcommand};

use crate::cidr::Cidr;

const CREATE_HELP: &str = "Driver options:
  all        mtu=N  container_iface_prefix=eth  metric=N  no_default_route=true
  bridges    com.docker.network.bridge.name=IF  icc=false  masquerade=false  hairpin=false  isolate=true|strict
             gateway_mode[_ipv4|_ipv6]=nat|nat-unprotected|routed|isolated  inhibit_ipv4=true
             host_binding_ipv4=IP  host_binding_ipv6=IP  trusted_host_interfaces=IF:IF  vlan=N  vrf=NAME
             outbound_addr4=IP  outbound_addr6=IP
  macvlan    parent=IF[.VLAN]  mode=bridge|private|vepa|passthru  bclim=N
  ipvlan     parent=IF[.VLAN]  mode=l2|l3|l3s
  overlay    peers=HOST[=RANGE],HOST...|/FILE|/DIRECTORY  backend=vxlan|host-gw|gre  local=IP  hosts=16
             vxlan-id=N  port=4789

Examples:
  netctl create front
  netctl create --subnet 10.7.0.0/24 --ip-range 10.7.0.128/25 -o icc=false back
  netctl create -d macvlan -o parent=eth0 --subnet 192.168.7.0/24 --gateway 192.168.7.1 lan
  netctl create -d macvlan -o parent=eth0.50 --ipam-driver dhcp office
  On each of three hosts, whose containers then reach each other:
  netctl create -d overlay --subnet 10.50.0.0/16 -o peers=192.168.7.1,192.168.7.2,192.168.7.3 wide";

/// Networks for containers: bridges, addresses, published ports, names.
#[derive(Debug, Parser)]
#[command(name = "netctl", version, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    /// Where the rules go: auto, nftables, iptables, iptables-legacy or none [default: $NETCTL_FIREWALL, or auto:
    /// nftables, but iptables where its FORWARD chain drops]
    #[arg(long, global = true, value_name = "WHERE")]
    pub firewall: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs. Deferred: only the one that is asked for is built, which is most of the time of a short command.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// Make a network; print its id
    #[command(after_help = CREATE_HELP)]
    Create(Create),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Show networks in full, as JSON
    Inspect(Inspect),
    /// Remove networks that nobody uses
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Remove all networks that nobody uses
    Prune {
        /// Nothing is asked, with or without it
        #[arg(short, long)]
        force: bool,
    },
    /// Attach a container: make its namespace, addresses, names and published ports; print a status as JSON
    #[command(after_help = "Without flags, the request is read as JSON from stdin. Examples:\n  \
        netctl up web1 --name web -p 8080:80 </dev/null\n  \
        ip netns exec web1 ... works after ln -s /run/bulkhead/net/ns/web1 /run/netns/web1\n  \
        nsenter --net=/run/bulkhead/net/ns/web1 ip addr\n\n\
        An ordinary user does the same inside `unshare -Urm` or `podman unshare`: slirp4netns or pasta \
        (NETCTL_UPLINK) joins the user's networks to the host's.")]
    Up(Box<Up>),
    /// Undo `up`; an id that is not attached is no error
    Down(Down),
    /// Let an attached container join one more network; print its status
    Connect(Connect),
    /// Let a container leave a network
    Disconnect(Disconnect),
    /// Remove what belongs to no attachment, as after a crash or a reboot; print the ids
    Gc,
    /// Write the firewall rules anew, as after `nft flush ruleset`
    Reload,
    /// Keep addresses that DHCP servers have given (started by `up`)
    #[command(hide = true)]
    Dhcp {
        /// The directory of the leases
        dir: std::path::PathBuf,
    },
    /// Answer names on networks (started by `up`)
    #[command(hide = true)]
    Dns {
        /// The directory of the networks' zone files
        dir: std::path::PathBuf,
    },
}

/// `netctl create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the network
    pub name: String,
    /// bridge, overlay (one network on several hosts), macvlan or ipvlan
    #[arg(short, long, default_value = "bridge")]
    pub driver: String,
    /// Subnet, ADDRESS/PREFIX; once per address family [default: a free one]
    #[arg(long)]
    pub subnet: Vec<Cidr>,
    /// The host's address in a subnet [default: the first]
    #[arg(long)]
    pub gateway: Vec<IpAddr>,
    /// Lease addresses from this part of a subnet
    #[arg(long)]
    pub ip_range: Vec<Cidr>,
    /// An address that somebody else has, NAME=ADDRESS
    #[arg(long, value_name = "NAME=ADDRESS")]
    pub aux_address: Vec<String>,
    /// No way out of the network and none in
    #[arg(long)]
    pub internal: bool,
    /// Give the network an IPv6 subnet, too
    #[arg(long)]
    pub ipv6: bool,
    /// Whether it has an IPv4 subnet
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true",
        action = clap::ArgAction::Set)]
    pub ipv4: bool,
    /// Who gives out addresses: default, none, or dhcp (macvlan: the parent's network has a server)
    #[arg(long, default_value = "default")]
    pub ipam_driver: String,
    /// Containers may always join; for scripts written for swarm
    #[arg(long, hide = true)]
    pub attachable: bool,
    /// Do not resolve names on the network
    #[arg(long)]
    pub disable_dns: bool,
    /// Driver option, docker's and podman's spellings, too (below)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub opt: Vec<String>,
    /// Label
    #[arg(long, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Do nothing where a network of that name exists
    #[arg(long)]
    pub ignore: bool,
}

/// `netctl ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// Print ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// json, or a template over Name, ID, Driver, Scope, IPv6, Internal, Labels, CreatedAt
    #[arg(long)]
    pub format: Option<String>,
    /// Only those with name=, id=, driver=, label=, dangling=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
}

/// `netctl inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Names or ids
    #[arg(required = true)]
    pub networks: Vec<String>,
    /// A template over each network
    #[arg(short, long)]
    pub format: Option<String>,
}

/// `netctl rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// Names or ids
    #[arg(required = true)]
    pub networks: Vec<String>,
    /// A network that does not exist is no error
    #[arg(short, long)]
    pub force: bool,
}

/// `netctl up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The container's id
    pub id: String,
    /// Its name on its networks
    #[arg(long)]
    pub name: Option<String>,
    /// Its host name
    #[arg(long)]
    pub hostname: Option<String>,
    /// A network, or none, host, container:ID; may be repeated [default: bridge]
    #[arg(long)]
    pub network: Vec<String>,
    /// A further name on its networks
    #[arg(long)]
    pub alias: Vec<String>,
    /// A fixed address on the first network
    #[arg(long)]
    pub ip: Option<IpAddr>,
    /// A fixed IPv6 address on the first network
    #[arg(long)]
    pub ip6: Option<IpAddr>,
    /// A fixed MAC address on the first network
    #[arg(long)]
    pub mac_address: Option<String>,
    /// Publish a port: [[IP:][HOST]:]CONTAINER[/tcp|udp|sctp]
    #[arg(short, long)]
    pub publish: Vec<String>,
    /// A server for names that are no container's
    #[arg(long)]
    pub dns: Vec<IpAddr>,
    /// Search domain
    #[arg(long)]
    pub dns_search: Vec<String>,
    /// Resolver option
    #[arg(long)]
    pub dns_option: Vec<String>,
    /// A line for the hosts file, NAME:ADDRESS
    #[arg(long, value_name = "NAME:ADDRESS")]
    pub add_host: Vec<String>,
}

/// `netctl down`.
#[derive(Debug, Args)]
pub struct Down {
    /// The container's id
    pub id: String,
    /// Return only when the rules and bridges are gone, too, not just the namespace
    #[arg(long)]
    pub wait: bool,
}

/// `netctl connect`.
#[derive(Debug, Args)]
pub struct Connect {
    /// The network
    pub network: String,
    /// The container: its id, the beginning of that, or its name
    pub id: String,
    /// A further name there
    #[arg(long)]
    pub alias: Vec<String>,
    /// A fixed address
    #[arg(long)]
    pub ip: Option<IpAddr>,
    /// A fixed IPv6 address
    #[arg(long)]
    pub ip6: Option<IpAddr>,
    /// A fixed MAC address
    #[arg(long)]
    pub mac_address: Option<String>,
    /// The interface's name inside
    #[arg(long)]
    pub interface: Option<String>,
    /// The network with the highest gives the default route and takes published ports in; the first of equals
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub gw_priority: i64,
}

/// `netctl disconnect`.
#[derive(Debug, Args)]
pub struct Disconnect {
    /// The network
    pub network: String,
    /// The container: its id, the beginning of that, or its name
    pub id: String,
}
