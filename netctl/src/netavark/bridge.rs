//! The bridge driver: a veth pair on a bridge, with rules, ports and names.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use nix::errno::Errno;

use super::input::Info;
use super::inside;
use super::names;
use super::sysctl;
use super::task::Task;
use crate::attach::request::mac_address;
use crate::behind;
use crate::firewall::{Isolation, Publish, Zone};
use crate::guest::{self, Guest};
use crate::netlink::link::{self, Link, PortMode, Veth};
use crate::netlink::message::Batch;
use crate::netlink::route;
use crate::netlink::socket::{Socket, errno};
use crate::network::{Network, Subnet, bridge, definition::random};
use crate::state::State;

/// How long the kernel may take to remove the links of a namespace that has gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks everything that can be checked before anything is made.
///
/// # Errors
/// What is wrong.
pub fn check(task: &Task<'_>) -> Result<()> {
    let info = &task.info;
    task.bridge()?;
    if is_managed(task) && info.ipam_driver() == Some("dhcp") {
        // The peer's own words: podman's users search for them.
        bail!("cannot use dhcp ipam driver without using the option mode=unmanaged");
    }
    if !is_managed(task) {
        make_bridge(&Socket::route()?, task)?;
    }
    names::check(task)?;
    info.addresses(&task.wanted)?;
    check_options(info)
}

/// Reads every option once.
///
/// # Errors
/// The first that is wrong.
pub fn check_options(info: &Info) -> Result<()> {
    info.number("mtu")?;
    info.number("metric")?;
    info.switch("no_default_route")?;
    info.vlan()?;
    info.address::<Ipv4Addr>("outbound_addr4")?;
    info.address::<Ipv6Addr>("outbound_addr6")?;
    isolation(info)?;
    match info.option("mode") {
        None | Some("managed" | "unmanaged") => Ok(()),
        Some(other) => bail!("invalid bridge mode {other:?}"),
    }
}

fn isolation(info: &Info) -> Result<Isolation> {
    match info.option("isolate") {
        None | Some("false" | "0") => Ok(Isolation::No),
        Some("true" | "1") => Ok(Isolation::Some),
        Some("strict") => Ok(Isolation::Strict),
        Some(other) => bail!("unable to parse \"isolate\": {other:?}"),
    }
}

fn is_managed(task: &Task<'_>) -> bool {
    task.info.option("mode") != Some("unmanaged")
}

/// Plugs the container in; what it did is undone by [`remove`].
///
/// # Errors
/// The kernel's refusal.
pub fn add(state: &State, host: &Socket, task: &Task<'_>, ports: Vec<Publish>) -> Result<serde_json::Value> {
    let link = make_bridge(host, task)?;
    // Entered first: a crash from here on is cleaned by teardown.
    let guest = Guest { version: 1, key: task.key(), zone: zone(task)?, ports, station: None };
    guest::enter(state, &guest)?;
    plug(host, task, &link)?;
    inside::configure(task)?;
    let lease = inside::ask(state, task)?;
    let own = lease.as_ref().and_then(|lease| lease.address).map(|address| address.address);
    let (servers, domains) = names::announce(task.names, task, own)?;
    inside::status(task, lease.as_ref(), &servers, &domains)
}

fn plug(host: &Socket, task: &Task<'_>, bridge: &Link) -> Result<()> {
    let (name, host_end) = (&task.wanted.interface_name, host_end(task));
    let mac = match task.wanted.static_mac.as_deref().filter(|mac| !mac.is_empty()) {
        Some(text) => mac_address(text)?,
        None => bridge::local_mac(&random()?),
    };
    let mtu = task.info.number("mtu")?.unwrap_or(bridge.mtu);
    let mut batch = Batch::new();
    let veth = Veth { host: host_end, inside: name, mac, mtu, bridge: bridge.index };
    link::add_veth(&mut batch, veth, task.inside()?.file.as_fd());
    if let Err(err) = host.run(&batch) {
        if errno(&err) == Some(Errno::EEXIST) {
            // The peer's own words: podman's users search for them.
            bail!(
                "create veth pair: interface {name} already exists on container namespace or {host_end} exists \
                 on host namespace: Netlink error: File exists (os error 17)"
            );
        }
        return Err(err).with_context(|| format!("network {}", task.info.name));
    }
    let inside = link::find(&task.inside()?.inside, name)?.context("the interface is gone")?;
    let mut batch = Batch::new();
    link::set_port_of(&mut batch, (inside.peer, host_end), PortMode { hairpin: true, isolated: false });
    host.run(&batch).with_context(|| format!("network {}", task.info.name))?;
    match task.info.vlan()? {
        Some(vlan) => keep_in(host, &task.info.name, (bridge.index, inside.peer), vlan),
        None => Ok(()),
    }
}

/// Puts a port into a VLAN of its bridge. The bridge's own side stays in the first one, as podman's users expect: a
/// router behind another port is the VLAN's gateway.
fn keep_in(host: &Socket, network: &str, (bridge, port): (u32, u32), vlan: u32) -> Result<()> {
    let mut batch = Batch::new();
    link::filter_vlans(&mut batch, bridge);
    link::set_vlan(&mut batch, port, vlan, false);
    match host.run(&batch) {
        Err(err) if errno(&err) == Some(Errno::EOPNOTSUPP) => {
            fault!(Unsupported, "network {network}: {}", bridge::NO_VLANS)
        }
        other => other.with_context(|| format!("network {network}")),
    }
}

fn make_bridge(host: &Socket, task: &Task<'_>) -> Result<Link> {
    let (info, name) = (&task.info, task.bridge()?);
    if !is_managed(task) {
        return link::find(host, name)?
            .filter(|link| link.kind == "bridge")
            .context("in unmanaged mode, the bridge must already exist on the host: Netlink error: No such device (os error 19)");
    }
    let subnets = info
        .subnets
        .iter()
        .flatten()
        .map(|subnet| Subnet { gateway: subnet.gateway, ..Subnet::plain(subnet.subnet) });
    let mut network =
        Network { interface: name.into(), subnets: subnets.collect(), ..Network::new(&info.name)? };
    let is_new = link::find(host, name)?.is_none();
    if is_new && let Some(mtu) = mtu(host, task)? {
        network.options.insert("mtu".into(), mtu.to_string());
    }
    let link = bridge::ensure_addressed(host, &network)
        .and_then(|link| sysctl::settle(&network).map(|()| link))
        .map_err(|err| reworded(err, &network))?;
    if let Some(vrf) = info.option("vrf").filter(|_| is_new) {
        let master = link::find(host, vrf)?
            .context("get vrf to set up bridge interface: Netlink error: No such device (os error 19)")?;
        let mut batch = Batch::new();
        link::set_master(&mut batch, name, master.index);
        host.run(&batch)?;
    }
    Ok(link)
}

/// In the peer's own words, for which podman's users search.
fn reworded(err: anyhow::Error, network: &Network) -> anyhow::Error {
    let has_v6 = network.subnets.iter().any(|subnet| subnet.subnet.address.is_ipv6());
    if has_v6 && errno(&err) == Some(Errno::EACCES) {
        return anyhow::anyhow!(
            "add ip addr to bridge: failed to add ipv6 address, is ipv6 enabled in the kernel?: Netlink error: \
             Permission denied (os error 13)"
        );
    }
    let switch =
        err.chain().find_map(|link| Some(link.to_string().strip_prefix("set /proc/sys/")?.to_owned()));
    match (switch, err.root_cause().downcast_ref::<std::io::Error>()) {
        (Some(switch), Some(cause)) => anyhow::anyhow!("set sysctl {switch}: IO error: {cause}"),
        _ => err,
    }
}

/// The MTU asked for, or that of the way out.
fn mtu(host: &Socket, task: &Task<'_>) -> Result<Option<u32>> {
    if let Some(mtu) = task.info.number("mtu")? {
        return Ok(Some(mtu));
    }
    let Some(index) = route::default_link(host)? else { return Ok(None) };
    Ok(link::find_index(host, index)?.map(|link| link.mtu))
}

/// The name that podman's users expect: `veth0` and so on (the kernel counts), unless one is given.
fn host_end<'a>(task: &'a Task<'_>) -> &'a str {
    let options = task.wanted.options.as_ref();
    options.and_then(|options| options.get("host_interface_name")).map_or("veth%d", String::as_str)
}

/// What the firewall needs to know; an unmanaged bridge and an internal network get no rule.
fn zone(task: &Task<'_>) -> Result<Option<Zone>> {
    let info = &task.info;
    if !is_managed(task) || task.without_rules {
        return Ok(None);
    }
    Ok(Some(Zone {
        bridge: task.bridge()?.into(),
        subnets: info.subnets.iter().flatten().map(|subnet| subnet.subnet.subnet()).collect(),
        internal: info.internal,
        masquerade: !info.internal,
        routed: true,
        names: names::listen(task)?,
        names_port: task.names.port,
        source: info.address("outbound_addr4")?,
        source6: info.address("outbound_addr6")?,
        isolation: isolation(info)?,
        ..Zone::default()
    }))
}

/// Whether the bridge has a port other than `port`. The port of a namespace that has gone goes a moment later: where no
/// container is left of whom we know, that is awaited.
fn is_used(state: &State, task: &Task<'_>, bridge: &Link, port: u32) -> Result<bool> {
    let is_last = || -> Result<bool> {
        Ok(!guest::record::zones(state)?.iter().any(|zone| zone.bridge == bridge.name))
    };
    let patience = if task.namespace.is_none() && is_last()? { PATIENCE } else { Duration::ZERO };
    let until = Instant::now() + patience;
    while link::has_other_ports(Socket::route()?, bridge.index, port)? {
        if Instant::now() >= until {
            return Ok(true);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

/// Undoes [`add`], from any point.
///
/// # Errors
/// The kernel's refusal.
pub fn remove(state: &State, host: &Socket, task: &Task<'_>) -> Result<()> {
    names::silence(task.names, task)?;
    guest::leave(state, &task.key())?;
    inside::remove_routes(task);
    let bridge = link::find(host, task.bridge()?)?;
    let inside = match task.namespace {
        Some(namespace) => link::find(&namespace.inside, &task.wanted.interface_name)?,
        // The kernel has taken the pair apart.
        None => None,
    };
    let outside = match (&inside, &bridge) {
        (Some(inside), Some(bridge)) => {
            link::find_index(host, inside.peer)?.filter(|link| link.master == bridge.index)
        }
        _ => None,
    };
    if inside.is_some() && outside.is_none() {
        // Not as we made it.
        inside::unplug(task)?;
    }
    let port = outside.as_ref().map_or(0, |link| link.index);
    let mut links: Vec<Link> = outside.into_iter().collect();
    if is_managed(task)
        && let Some(bridge) = bridge
        && !is_used(state, task, &bridge, port)?
    {
        links.push(bridge);
    }
    if links.is_empty() {
        return Ok(());
    }
    if links.iter().any(|link| link.kind == "bridge") {
        sysctl::forget(task.bridge()?);
    }
    let mut batch = Batch::new();
    let indices: Vec<u32> = links.iter().map(|link| link.index).collect();
    link::delete_together(&mut batch, &indices, u32::from_ne_bytes(random()?) | 1);
    // Not by netlink: that would wait for the lock that the kernel holds while it takes a bridge apart.
    let is_seen = || Ok(links.iter().any(|link| nix::net::if_::if_nametoindex(link.name.as_str()).is_ok()));
    behind::vanish(|| Socket::route()?.run(&batch), is_seen)
        .with_context(|| format!("network {}", task.info.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_cannot_be_set_is_told_as_netavark_tells_it() {
        let cause = std::io::Error::from_raw_os_error(nix::libc::EROFS);
        let err =
            anyhow::Error::from(cause).context("set /proc/sys/net/ipv4/ip_forward").context("network podman");
        assert_eq!(
            format!("{:#}", reworded(err, &Network::default())),
            "set sysctl net/ipv4/ip_forward: IO error: Read-only file system (os error 30)"
        );
    }
}
