//! `netctl up`: from a request to a namespace with links, addresses, names and published ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use contracts::network::{Attachment, Port, Request, Status};
use contracts::{fault, name};

use super::record::Record;
use super::request::{self, Mode};
use super::{down, endpoint, files, leased, member, namespace, port, way_out};
use crate::firewall::{Filter, Publish, choice};
use crate::netlink::socket::Socket;
use crate::network::{self, Network};
use crate::rootless;
use crate::rules;
use crate::state::State;

/// Attaches `id`. On failure nothing is left.
///
/// # Errors
/// `Usage`, `NotFound`, `Busy`, or the kernel's refusal.
pub fn up(state: &State, id: &str, request: Request) -> Result<Status> {
    name::check("container id", id)?;
    let mode = request::mode(&request)?;
    if let Some(old) = Record::read(state, id)? {
        // After a reboot that kept the state directory the namespace is gone and the record means nothing.
        let is_up = old.status.netns.is_none() || old.shares.is_some() || namespace::is_mounted(state, id);
        if is_up && !old.is_abandoned() {
            fault!(Exists, "{id} is already attached: netctl down {id} first");
        }
        down::undo(state, id)?;
    }
    choice::check(state)?;
    if matches!(mode, Mode::Networks(_)) {
        rootless::make(state)?;
    }
    let mut record = Record { version: 1, id: id.into(), request, ..Record::default() };
    record.rootless = rootless::is_used();
    record.status.version = 1;
    record.status.hostname = hostname(&record, &mode)?;
    state.pending(id)?;
    let done = match mode {
        Mode::Host => files::write(state, &mut record, &[], false),
        Mode::None => alone(state, &mut record),
        Mode::Container(other) => share(state, &mut record, &other),
        Mode::Networks(wanted) => join(state, &mut record, &wanted),
    };
    let done = done.and_then(|()| {
        record.joining = None;
        record.write(state)
    });
    if let Err(err) = done {
        // The first error is the one to tell; what cannot be undone now stays pending for the next command.
        if record.is_ours(state)? && down::undo_record(state, &record).is_ok() {
            state.settled()?;
        }
        return Err(err).with_context(|| format!("attach {id}"));
    }
    state.settled()?;
    Ok(record.status)
}

fn hostname(record: &Record, mode: &Mode) -> Result<String> {
    let request = &record.request;
    if !request.hostname.is_empty() {
        return Ok(request.hostname.clone());
    }
    if *mode == Mode::Host {
        let own = nix::unistd::gethostname().context("read the host's name")?;
        return Ok(own.to_string_lossy().into_owned());
    }
    Ok(record.id.chars().take(12).collect())
}

fn alone(state: &State, record: &mut Record) -> Result<()> {
    if record.request.unnamed {
        record.status.unnamed = true;
    } else {
        namespace::make(state, record, false)?;
    }
    files::write(state, record, &[], true)
}

fn share(state: &State, record: &mut Record, other: &str) -> Result<()> {
    let owner = Record::expect(state, other)?;
    let hostname = record.request.hostname.clone();
    record.status = Status { ports: Vec::new(), userns: None, unnamed: false, ..owner.status };
    if owner.status.unnamed {
        let Some(path) = record.request.joins.clone() else {
            fault!(WrongState, "{other} is on network none: who runs it has to say where its namespace is");
        };
        record.status.netns = Some(path);
    }
    if !hostname.is_empty() && hostname != record.status.hostname {
        fault!(Usage, "conflicting options: hostname and the network mode container:{other}");
    }
    record.shares = Some(owner.shares.unwrap_or_else(|| other.into()));
    Ok(())
}

fn join(state: &State, record: &mut Record, wanted: &[Attachment]) -> Result<()> {
    // First all that can be refused, without touching the kernel.
    let mut networks = Vec::new();
    for attachment in wanted {
        let network = network::find(state, &attachment.network)?;
        endpoint::plan(state, record, &network, attachment)?;
        networks.push(network);
    }
    // The way out first: who comes later leaves its routes alone.
    networks.sort_by_key(|network| record.order.iter().position(|name| *name == network.name));
    let wanted = bound(record, &networks)?;
    record.status.ports = port::choose(state, &wanted)?;
    port::claim(state, &record.status.ports, &record.id)?;
    record.write(state)?;

    let host = Socket::route()?;
    let ipv6 = record.status.networks.values().any(|endpoint| endpoint.address6.is_some());
    let namespace = namespace::make(state, record, ipv6)?;
    let mut fresh = false;
    for network in &networks {
        fresh |= member::enter(state, record, network)?;
        endpoint::plug(&host, &namespace, record, network)?;
        if network.dhcp && fresh {
            // Others may join the networks so far while a server is asked, and rely on their rules.
            rules::refresh(state, &Filter::open(state)?)?;
            fresh = false;
        }
        leased::ask(state, &namespace, record, network)?;
        member::announce(state, record, network)?;
    }
    publish(state, record, fresh)?;
    rootless::publish(state, record)?;
    files::write(state, record, &networks, true)?;
    if !namespace::is_mounted(state, &record.id) {
        fault!(WrongState, "the network namespace of {} has gone", record.id);
    }
    Ok(())
}

/// The ports asked for; those without an address of the host get the one that the network to which they go says.
fn bound(record: &Record, networks: &[Network]) -> Result<Vec<Port>> {
    let mut ports = record.request.ports.clone();
    if ports.is_empty() {
        return Ok(ports);
    }
    let way_in = |v4| record.way_in(v4).and_then(|name| networks.iter().find(|network| network.name == name));
    let (v4, v6) = (way_in(true), way_in(false));
    if v4.is_none() && v6.is_none() {
        fault!(Usage, "cannot publish ports: no network of {} has a way out", record.id);
    }
    let binding =
        |network: Option<&Network>, v4| network.map_or(Ok(None), |network| network.host_binding(v4));
    let (own4, own6) = (binding(v4, true)?, binding(v6, false)?);
    let mut more = Vec::new();
    for port in &mut ports {
        match port.host_ip {
            Some(host) if host.is_ipv4() && v4.is_none() || host.is_ipv6() && v6.is_none() => {
                let family = if host.is_ipv4() { 4 } else { 6 };
                let container = port.container_port;
                fault!(
                    Usage,
                    "cannot publish {container} on {host}: {} has no IPv{family} network with a way out",
                    record.id
                );
            }
            None if own4.is_some() || own6.is_some() => {
                let any =
                    |v4| if v4 { Ipv4Addr::UNSPECIFIED.into() } else { IpAddr::from(Ipv6Addr::UNSPECIFIED) };
                let hosts: Vec<IpAddr> = [(v4, own4, true), (v6, own6, false)]
                    .into_iter()
                    .filter(|(network, _, _)| network.is_some())
                    .map(|(_, own, v4)| own.unwrap_or_else(|| any(v4)))
                    .collect();
                let mut hosts = hosts.into_iter();
                port.host_ip = hosts.next();
                more.extend(hosts.map(|host| Port { host_ip: Some(host), ..port.clone() }));
            }
            _ => {}
        }
    }
    ports.extend(more);
    Ok(ports)
}

/// Opens the firewall for the record: rules where a network is new, ports always.
///
/// # Errors
/// The kernel's refusal.
pub fn publish(state: &State, record: &Record, fresh: bool) -> Result<()> {
    let ports = record.published();
    if !fresh && ports.is_empty() {
        return Ok(());
    }
    let filter = Filter::open(state)?;
    if fresh {
        rules::refresh(state, &filter)?;
    }
    if !ports.is_empty() && !filter.add_ports(&ports)? {
        rules::reload(state, &filter, Some(record))?;
    }
    Ok(())
}

/// Joins one more network.
///
/// # Errors
/// As [`up`]; the other networks stay as they are.
pub fn connect(state: &State, id: &str, wanted: &Attachment) -> Result<Status> {
    request::check_attachment(wanted)?;
    let before = down::settle(state, id)?;
    if before.status.unnamed {
        fault!(WrongState, "{id} is on network none, and on no other");
    }
    if before.shares.is_some() || before.status.netns.is_none() {
        fault!(WrongState, "{id} has no network namespace of its own to connect");
    }
    choice::check(state)?;
    rootless::expect()?;
    let network = network::find(state, &wanted.network)?;
    if network::PREDEFINED.contains(&network.name.as_str()) {
        fault!(
            WrongState,
            "cannot connect {id} to {}: that is chosen when a container is made",
            network.name
        );
    }
    // Before anything is leased: without it, what was leased could not be undone here.
    namespace::open(state, id)?;
    if before.status.networks.contains_key(&network.name) {
        fault!(Exists, "connect {id} to network {0}: {id} is already on network {0}", network.name);
    }
    let mut record = before.clone();
    record.begin(Some(&network.name))?;
    let done = record
        .write(state)
        .and_then(|()| endpoint::plan(state, &mut record, &network, wanted))
        .and_then(|()| record.write(state))
        .and_then(|()| plug_more(state, &mut record, &network, &before.published()))
        .and_then(|()| {
            record.joining = None;
            record.write(state)
        });
    if let Err(err) = done {
        // The first error is the one to tell; what cannot be undone now is when the process is known to have ended.
        if record.is_ours(state)? && down::withdraw_from(state, &mut record, &network.name).is_ok() {
            before.write(state)?;
        }
        return Err(err).with_context(|| format!("connect {id} to network {}", network.name));
    }
    Ok(record.status)
}

fn plug_more(state: &State, record: &mut Record, network: &Network, published: &[Publish]) -> Result<()> {
    let namespace = namespace::open(state, &record.id)?;
    if record.status.networks.values().any(|endpoint| endpoint.address6.is_some()) {
        // Made without, perhaps; the order of connections is the user's.
        namespace::allow_ipv6(&namespace)?;
    }
    let fresh = member::enter(state, record, network)?;
    way_out::make_way(state, &namespace, record, network)?;
    endpoint::plug(&Socket::route()?, &namespace, record, network)?;
    leased::ask(state, &namespace, record, network)?;
    // Of a DHCP server's network is known only now whether it leads anywhere.
    way_out::restore(state, &namespace, record)?;
    member::announce(state, record, network)?;
    if record.published() == published {
        publish(state, record, fresh)?;
    } else {
        rules::reload(state, &Filter::open(state)?, Some(record))?;
    }
    let networks = record.networks(state)?;
    files::write(state, record, &networks, true)
}
