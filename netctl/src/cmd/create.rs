//! `netctl create`.

use std::net::IpAddr;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::{fault, name};

use super::{pairs, print};
use crate::cidr::Cidr;
use crate::cli::Create;
use crate::netlink::{link, socket::Socket};
use crate::network::{self, Network, PREDEFINED, Subnet, bridge, overlay, peers, pool};
use crate::state::State;

/// Makes a network; prints its id.
///
/// # Errors
/// `Usage`, `Exists`, `Busy` for an overlap.
pub fn run(args: Create) -> Result<Exit> {
    name::check("network name", &args.name)?;
    if PREDEFINED.contains(&args.name.as_str()) || args.name == "default" {
        fault!(Denied, "operation is not permitted on predefined {} network", args.name);
    }
    if !["bridge", "overlay", "macvlan", "ipvlan"].contains(&args.driver.as_str()) {
        fault!(
            Unsupported,
            "network driver {:?}: bridge, overlay, macvlan and ipvlan are known",
            args.driver
        );
    }
    match args.ipam_driver.as_str() {
        "default" | "host-local" | "none" => {}
        "dhcp" if args.driver == "macvlan" => {}
        "dhcp" => fault!(
            Unsupported,
            "ipam driver dhcp is for macvlan networks: on a {} network no DHCP server hears the containers",
            args.driver
        ),
        other => fault!(Unsupported, "ipam driver {other:?}: default, none and dhcp are known"),
    }
    let state = State::open()?;
    if let Some(old) = network::all(&state)?.into_iter().find(|old| old.name == args.name) {
        if args.ignore {
            print(&format!("{}\n", old.id))?;
            return Ok(Exit::Ok);
        }
        fault!(Exists, "network with name {} already exists", args.name);
    }
    let mut made = Network::new(&args.name)?;
    made.driver.clone_from(&args.driver);
    made.internal = args.internal;
    made.dns = !args.disable_dns;
    made.options = pairs("--opt", &args.opt)?;
    made.labels = pairs("--label", &args.label)?;
    if made.option("vrf").is_some() {
        // A name server answers in the routing table of the host alone.
        made.dns = false;
    }
    made.dhcp = args.ipam_driver == "dhcp";
    made.check_options()?;
    made.subnets = subnets(&state, &args)?;
    let host = Socket::route()?;
    let present = link::find(&host, &made.interface)?;
    let is_tagged = match bridge::tagged(&made.interface) {
        Some((parent, _)) => link::find(&host, parent)?.is_some(),
        None => false,
    };
    if !made.is_bridge() && present.is_none() && !is_tagged {
        fault!(NotFound, "parent interface {} does not exist", made.interface);
    }
    if made.is_bridge() && present.is_some() {
        fault!(Busy, "interface name {} is taken by a link of this host", made.interface);
    }
    for other in network::all(&state)? {
        if made.is_bridge() && other.interface == made.interface {
            fault!(Busy, "interface name {} belongs to network {}", made.interface, other.name);
        }
        if made.driver == "overlay" && other.driver == "overlay" {
            let id = overlay::identifier(&made)?;
            if id == overlay::identifier(&other)? {
                fault!(
                    Busy,
                    "network {} has the identifier {id}, too: another with --opt vxlan-id=N",
                    other.name
                );
            }
        }
    }
    if made.driver == "overlay" {
        peers::settle(&mut made, &host)?;
    }
    network::save(&state, &made)?;
    print(&format!("{}\n", made.id))?;
    Ok(Exit::Ok)
}

fn subnets(state: &State, args: &Create) -> Result<Vec<Subnet>> {
    let mut wanted: Vec<Cidr> = args.subnet.clone();
    if wanted.iter().filter(|subnet| subnet.address.is_ipv4()).count() > 1
        || wanted.iter().filter(|subnet| !subnet.address.is_ipv4()).count() > 1
    {
        fault!(Usage, "one subnet per address family");
    }
    let has = |wanted: &[Cidr], v4: bool| wanted.iter().any(|subnet| subnet.address.is_ipv4() == v4);
    if ["none", "dhcp"].contains(&args.ipam_driver.as_str()) {
        if !wanted.is_empty() {
            fault!(Usage, "--subnet and --ipam-driver {} contradict each other", args.ipam_driver);
        }
        return Ok(Vec::new());
    }
    if !args.ipv4 && has(&wanted, true) {
        fault!(Usage, "--ipv4=false and an IPv4 subnet contradict each other");
    }
    if !args.ipv4 && !args.ipv6 && wanted.is_empty() {
        fault!(Usage, "a network needs IPv4 or IPv6: --ipv4=false goes with --ipv6 or an IPv6 --subnet");
    }
    if args.driver == "overlay" && wanted.is_empty() {
        fault!(Usage, "an overlay network needs --subnet, the same on all its hosts");
    }
    if wanted.is_empty() && args.ipv4 {
        wanted.push(pool::choose(state, pool::Size::Network)?);
    }
    if args.ipv6 && !has(&wanted, false) {
        wanted.push(pool::choose_v6()?);
    }
    let mut subnets: Vec<Subnet> = wanted.into_iter().map(Subnet::plain).collect();
    for gateway in &args.gateway {
        of(&mut subnets, *gateway, "gateway")?.gateway = Some(*gateway);
    }
    for range in &args.ip_range {
        of(&mut subnets, range.first(), "ip range")?.range = Some(range.subnet());
    }
    for text in &args.aux_address {
        let Some((name, address)) = text.split_once('=').and_then(|(k, v)| Some((k, v.parse().ok()?))) else {
            fault!(Usage, "--aux-address {text:?}: not NAME=ADDRESS");
        };
        of(&mut subnets, address, "auxiliary address")?.auxiliary.insert(name.into(), address);
    }
    for subnet in &subnets {
        pool::check(state, subnet)?;
    }
    Ok(subnets)
}

fn of<'a>(subnets: &'a mut [Subnet], address: IpAddr, what: &str) -> Result<&'a mut Subnet> {
    match subnets.iter_mut().find(|subnet| subnet.subnet.contains(address)) {
        Some(subnet) => Ok(subnet),
        None => fault!(Usage, "no matching subnet for {what} {address}"),
    }
}
