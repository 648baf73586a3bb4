//! The bridge plugin: ADD, DEL, CHECK.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::answer::{Answer, Interface, Ip};
use super::config::{Config, Environment, RouteSpec};
use super::delegate::Input;
use super::failure::{CHECK_FAILED, INVALID_CONFIG, UNKNOWN_CONTAINER, fail};
use super::{portmap, vlan};
use crate::attach::namespace::{self, Namespace};
use crate::attach::request::mac_address;
use crate::behind;
use crate::cidr::Cidr;
use crate::firewall::{Zone, stations::Station};
use crate::guest::{self, Guest, Key};
use crate::netlink::link::{self, Link, PortMode, Veth};
use crate::netlink::message::Batch;
use crate::netlink::route::{self, Route};
use crate::netlink::socket::Socket;
use crate::network::{Network, Subnet, bridge, definition::random};
use crate::state::State;

fn key(config: &Config, environment: &Environment) -> Key {
    Key {
        network: config.name.clone(),
        container: environment.container.clone(),
        interface: environment.interface.clone(),
    }
}

/// Refuses what we cannot do, before anything is made.
///
/// # Errors
/// Numbers 2 and 7.
pub fn check_config(config: &Config) -> Result<()> {
    vlan::check(config)?;
    if config.hairpin_mode && config.promisc_mode {
        fail!(INVALID_CONFIG, "cannot set hairpin mode and promiscuous mode at the same time");
    }
    if config.mtu != 0 && !(68..=65535).contains(&config.mtu) {
        fail!(INVALID_CONFIG, "invalid MTU {}: not from 68 to 65535", config.mtu);
    }
    if config.bridge.len() > 15 || config.bridge.contains(['/', ':', ' ']) {
        fail!(INVALID_CONFIG, "invalid bridge name {:?}", config.bridge);
    }
    portmap::check_config(config)
}

/// ADD.
///
/// # Errors
/// What is wrong; everything is undone then.
pub fn add(state: &State, input: &Input, environment: &Environment) -> Result<Answer> {
    let config = &input.config;
    check_config(config)?;
    let namespace = match namespace::open_path(Path::new(&environment.netns)) {
        Ok(namespace) => namespace,
        Err(err) => fail!(UNKNOWN_CONTAINER, "{}", contracts::report::one_line(&err)),
    };
    if link::find(&namespace.inside, &environment.interface)?.is_some() {
        fail!(INVALID_CONFIG, "container veth name {:?} already exists", environment.interface);
    }
    let mut answer = input.ipam_add(environment)?;
    match attach(state, config, environment, (&namespace, &mut answer)) {
        Ok(()) => Ok(answer),
        Err(err) => {
            // The first error is the one to tell. With the link inside, its host end goes.
            let _ = link::remove(&namespace.inside, &environment.interface);
            let _ = guest::leave(state, &key(config, environment));
            let _ = input.ipam_del(environment);
            Err(err)
        }
    }
}

fn attach(
    state: &State,
    config: &Config,
    environment: &Environment,
    (namespace, answer): (&Namespace, &mut Answer),
) -> Result<()> {
    complete(config, answer)?;
    let host = Socket::route()?;
    let (bridge, gateway) = make_bridge(&host, config, answer)?;
    let host_end = plug(&host, namespace, config, (environment, bridge.index))?;
    let inside = link::find(&namespace.inside, &environment.interface)?.context("the interface is gone")?;
    if !config.disable_container_interface {
        configure(namespace, &environment.interface, inside.index, answer)?;
    }
    let outside = link::find(&host, &host_end)?.unwrap_or_default();
    if vlan::is_wanted(config) {
        vlan::enter(&host, config, outside.index)?;
    }
    let shown = |name: &str, link: &Link, sandbox: &str| Interface {
        name: name.into(),
        mac: shown_mac(&link.mac),
        mtu: Some(link.mtu),
        sandbox: sandbox.into(),
    };
    answer.interfaces = vec![
        shown(config.bridge_name(), &bridge, ""),
        shown(&host_end, &outside, ""),
        shown(&environment.interface, &inside, &environment.netns),
    ];
    if let Some(gateway) = gateway {
        answer.interfaces.push(shown(&vlan::gateway_name(config), &gateway, ""));
    }
    let ports = portmap::wanted(config, answer)?;
    let zone = (config.ip_masq || !ports.is_empty()).then(|| Zone {
        bridge: vlan::gateway_name(config),
        subnets: answer.ips.iter().map(|ip| ip.address.subnet()).collect(),
        masquerade: config.ip_masq,
        routed: true,
        ..Zone::default()
    });
    let mac = inside.mac.as_slice().try_into().ok();
    let station = mac.filter(|_| config.macspoofchk).map(|mac| Station { port: host_end, mac });
    if zone.is_some() || station.is_some() {
        guest::enter(state, &Guest { version: 1, key: key(config, environment), zone, ports, station })?;
    }
    Ok(())
}

/// Gateways and routes that follow from the configuration.
fn complete(config: &Config, answer: &mut Answer) -> Result<()> {
    let is_gateway = config.is_gateway || config.is_default_gateway;
    for ip in &mut answer.ips {
        ip.interface = Some(2);
        if is_gateway {
            ip.gateway.get_or_insert(ip.address.nth(1));
        }
    }
    if config.is_default_gateway {
        for ip in &answer.ips {
            let dst = Cidr::any(ip.address.address);
            if !answer.routes.iter().any(|route| route.dst == dst) {
                let gw = ip.gateway;
                let (mtu, advmss, priority, table, scope) = (None, None, None, None, None);
                answer.routes.push(RouteSpec { dst, gw, mtu, advmss, priority, table, scope });
            }
        }
    }
    if config.dns != super::config::Dns::default() {
        answer.dns = config.dns.clone();
    }
    if let Some(dns) = &config.runtime_config.dns {
        answer.dns.nameservers.clone_from(&dns.servers);
        answer.dns.search.clone_from(&dns.searches);
        answer.dns.options.clone_from(&dns.options);
    }
    Ok(())
}

/// The bridge, and the link that has the gateway's addresses where that is another one.
fn make_bridge(host: &Socket, config: &Config, answer: &Answer) -> Result<(Link, Option<Link>)> {
    let name = config.bridge_name();
    let is_gateway = config.is_gateway || config.is_default_gateway;
    let subnets = answer
        .ips
        .iter()
        .filter(|_| is_gateway)
        .map(|ip| Subnet { gateway: ip.gateway, ..Subnet::plain(ip.address) });
    let mut network =
        Network { interface: name.into(), subnets: subnets.collect(), ..Network::new(&config.name)? };
    if config.mtu > 0 {
        network.options.insert("mtu".into(), config.mtu.to_string());
    }
    if let Some(link) = link::find(host, &vlan::gateway_name(config))? {
        for address in route::addresses(host, link.index)? {
            let other = |ip: &Ip| ip.gateway.is_some_and(|gateway| gateway != address.address);
            let clash =
                answer.ips.iter().any(|ip| is_gateway && other(ip) && ip.address.contains(address.address));
            if clash && !config.force_address {
                fail!(
                    INVALID_CONFIG,
                    "{} already has an IP address different from the gateway: {address}",
                    vlan::gateway_name(config)
                );
            }
            if clash {
                let mut batch = Batch::new();
                route::delete_address(&mut batch, link.index, address);
                host.run(&batch)?;
            }
        }
    }
    let subnets = match config.vlan {
        0 => Vec::new(),
        _ => std::mem::take(&mut network.subnets),
    };
    let is_new = link::find(host, name)?.is_none();
    let link = bridge::ensure_addressed(host, &network)?;
    if vlan::is_wanted(config)
        && let Err(err) = vlan::tell_apart(host, link.index)
    {
        if is_new {
            link::remove(host, name)?;
        }
        return Err(err);
    }
    if config.promisc_mode {
        let mut batch = Batch::new();
        link::set_promiscuous(&mut batch, link.index);
        host.run(&batch)?;
    }
    if subnets.is_empty() {
        return Ok((link, None));
    }
    let gateway = vlan::gateway(host, config, &link)?;
    bridge::address(host, &Network { interface: vlan::gateway_name(config), subnets, ..network }, &gateway)?;
    Ok((link, Some(gateway)))
}

/// Makes the veth pair; the name of the host's end.
fn plug(
    host: &Socket,
    namespace: &Namespace,
    config: &Config,
    (environment, bridge): (&Environment, u32),
) -> Result<String> {
    let suffix: String = random::<4>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let host_end = format!("veth{suffix}");
    let wanted = [
        environment.args.get("MAC").map_or("", String::as_str),
        &config.args.cni.mac,
        &config.runtime_config.mac,
    ];
    let mac = match wanted.into_iter().rfind(|text| !text.is_empty()) {
        Some(text) => mac_address(text)?,
        None => bridge::local_mac(&random()?),
    };
    let found = link::find(host, config.bridge_name())?.unwrap_or_default();
    let mtu = if config.mtu > 0 { config.mtu } else { found.mtu };
    let mut batch = Batch::new();
    let veth = Veth { host: &host_end, inside: &environment.interface, mac, mtu, bridge };
    link::add_veth(&mut batch, veth, namespace.file.as_fd());
    let mode = PortMode { hairpin: config.hairpin_mode, isolated: config.port_isolation };
    link::set_port(&mut batch, &host_end, mode);
    host.run(&batch).with_context(|| format!("network {}", config.name))?;
    Ok(host_end)
}

fn configure(namespace: &Namespace, name: &str, index: u32, answer: &Answer) -> Result<()> {
    if answer.ips.iter().any(|ip| ip.address.address.is_ipv6()) {
        let switch = format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6");
        namespace::within(&namespace.file, || std::fs::write(&switch, "0"))?
            .with_context(|| format!("set {switch}"))?;
    }
    let mut batch = Batch::new();
    for ip in &answer.ips {
        link::add_address(&mut batch, index, ip.address);
    }
    link::set_up(&mut batch, index, name);
    for wanted in &answer.routes {
        route::add(&mut batch, &kernel_route(wanted, answer, index));
    }
    namespace.inside.run(&batch).with_context(|| format!("configure {name}"))
}

fn kernel_route(wanted: &RouteSpec, answer: &Answer, index: u32) -> Route {
    let same = |ip: &&Ip| ip.address.address.is_ipv4() == wanted.dst.address.is_ipv4();
    let gateway = wanted.gw.or_else(|| answer.ips.iter().find(same).and_then(|ip| ip.gateway));
    Route {
        metric: wanted.priority.unwrap_or(0),
        mtu: wanted.mtu.unwrap_or(0),
        advmss: wanted.advmss.unwrap_or(0),
        table: wanted.table.unwrap_or(0),
        scope: wanted.scope,
        ..Route::new(wanted.dst, gateway, index)
    }
}

fn shown_mac(mac: &[u8]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// DEL: what is gone already is no error.
///
/// # Errors
/// The kernel's refusal.
pub fn del(state: &State, input: &Input, environment: &Environment) -> Result<()> {
    input.ipam_del(environment)?;
    guest::leave(state, &key(&input.config, environment))?;
    let open = || namespace::open_path(Path::new(&environment.netns)).ok();
    let Some(watched) = open() else { return Ok(()) };
    let is_seen = || Ok(link::find(&watched.inside, &environment.interface)?.is_some());
    if !is_seen()? {
        return Ok(());
    }
    let remove =
        || open().map_or(Ok(()), |namespace| link::remove(&namespace.inside, &environment.interface));
    behind::vanish(remove, is_seen)
}

/// CHECK: everything of the previous result is there.
///
/// # Errors
/// Number 101, naming what is not.
pub fn check(state: &State, input: &Input, environment: &Environment) -> Result<()> {
    let config = &input.config;
    check_config(config)?;
    let Some(previous) = &config.prev_result else { fail!(INVALID_CONFIG, "CHECK needs a prevResult") };
    let answer = Answer::parse(previous)?;
    input.ipam_check(environment)?;
    let host = Socket::route()?;
    let name = config.bridge_name();
    let Some(bridge) = link::find(&host, name)?.filter(|link| link.kind == "bridge") else {
        fail!(CHECK_FAILED, "bridge {name} is missing");
    };
    let gateway = vlan::gateway_name(config);
    if answer.interfaces.iter().any(|end| end.name == gateway) && link::find(&host, &gateway)?.is_none() {
        fail!(CHECK_FAILED, "interface {gateway} is missing");
    }
    let is_port = |end: &&Interface| end.sandbox.is_empty() && end.name != name && end.name != gateway;
    for end in answer.interfaces.iter().filter(is_port) {
        if link::find(&host, &end.name)?.is_none_or(|link| link.master != bridge.index) {
            fail!(CHECK_FAILED, "interface {} is not on bridge {name}", end.name);
        }
    }
    check_inside(environment, &answer)?;
    let ports = portmap::wanted(config, &answer)?;
    let guest = guest::read(state, &key(config, environment))?;
    let has_rules = guest
        .as_ref()
        .is_some_and(|guest| guest.ports == ports && (guest.station.is_some() || !config.macspoofchk));
    if (config.ip_masq || !ports.is_empty() || config.macspoofchk) && !has_rules {
        fail!(CHECK_FAILED, "the rules of {} are missing", environment.container);
    }
    Ok(())
}

fn check_inside(environment: &Environment, answer: &Answer) -> Result<()> {
    let name = &environment.interface;
    let namespace = namespace::open_path(Path::new(&environment.netns))?;
    let Some(inside) = link::find(&namespace.inside, name)? else {
        fail!(CHECK_FAILED, "interface {name} is missing in {}", environment.netns);
    };
    let expected = answer.interfaces.iter().find(|end| end.name == *name && !end.sandbox.is_empty());
    let Some(expected) = expected else { fail!(CHECK_FAILED, "prevResult has no interface {name}") };
    if !expected.mac.is_empty() && !expected.mac.eq_ignore_ascii_case(&shown_mac(&inside.mac)) {
        fail!(CHECK_FAILED, "interface {name} has another MAC address than {}", expected.mac);
    }
    let addresses = route::addresses(&namespace.inside, inside.index)?;
    for ip in &answer.ips {
        if !addresses.contains(&ip.address) {
            fail!(CHECK_FAILED, "interface {name} does not have address {}", ip.address);
        }
    }
    let routes = route::all(&namespace.inside, inside.index)?;
    for wanted in &answer.routes {
        let wanted = kernel_route(wanted, answer, inside.index);
        let same = |route: &&Route| {
            route.destination.subnet() == wanted.destination.subnet() && route.gateway == wanted.gateway
        };
        if !routes.iter().any(|route| same(&route)) {
            fail!(CHECK_FAILED, "the route to {} is missing", wanted.destination);
        }
    }
    Ok(())
}
