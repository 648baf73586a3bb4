//! Names for podman's containers: aardvark-dns' files in `CONFIG/aardvark-dns`, answered by the program that podman
//! names, or by ourselves.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};

use super::aardvark::Server;
use super::log::{self, Level};
use super::task::Task;
use crate::dns::aardvark::DOMAIN;
use crate::dns::file;
use crate::dns::zone::{Entry, Zone, file_name, is_writable};
use crate::netlink::link;
use crate::netlink::route;
use crate::netlink::socket::Socket;
use crate::state;

/// The addresses that a network's names are answered on.
///
/// # Errors
/// An unmanaged bridge without an address.
pub fn listen(task: &Task<'_>) -> Result<Vec<IpAddr>> {
    if !task.info.dns_enabled {
        return Ok(Vec::new());
    }
    if task.info.option("mode") != Some("unmanaged") {
        return Ok(task.info.subnets.iter().flatten().filter_map(|subnet| subnet.gateway).collect());
    }
    let (host, name) = (Socket::route()?, task.bridge()?);
    let Some(bridge) = link::find(&host, name)? else { return Ok(Vec::new()) };
    let found: Vec<IpAddr> = route::addresses(&host, bridge.index)?
        .iter()
        .map(|address| address.address)
        .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    if found.is_empty() {
        // The peer's own words: podman's users search for them.
        bail!(
            "bridge '{name}' in unmanaged mode has no usable IP addresses. Aardvark-dns requires at least one address \
             (should not be an IPv6 link-local address) to bind to. Please add an IP address or disable DNS for this \
             network (--disable-dns)."
        );
    }
    Ok(found)
}

/// Checks that names can be answered, and that the server does not ask itself.
///
/// # Errors
/// What is wrong.
pub fn check(task: &Task<'_>) -> Result<()> {
    let listen = listen(task)?;
    let own = task.input.dns_servers.iter().flatten();
    let mut asked = own.chain(task.info.network_dns_servers.iter().flatten());
    if let Some(server) = asked.find(|server| listen.contains(server)) {
        bail!(
            "network {}: the dns server {server} is the network's own gateway, which would cause aardvark-dns to \
             forward queries to itself",
            task.info.name
        );
    }
    Ok(())
}

/// Has the container's names answered, with the addresses that podman chose or its `own`; the servers and the search
/// domains to tell podman.
///
/// # Errors
/// The file system's; the server cannot be started.
pub fn announce(
    server: &Server,
    task: &Task<'_>,
    own: Option<IpAddr>,
) -> Result<(Vec<IpAddr>, Vec<&'static str>)> {
    let (info, input) = (&task.info, task.input);
    let listen = listen(task)?;
    if listen.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut names: Vec<String> = Vec::new();
    for name in std::iter::once(&input.container_name).chain(task.wanted.aliases.iter().flatten()) {
        if !is_writable(name) {
            let reason = if name.is_empty() { "name is empty" } else { "name contains invalid chars" };
            log::say(
                Level::Warn,
                "network::bridge",
                &format!("invalid network alias {name:?}: {reason}, ignoring it"),
            );
        } else if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let zone = Zone {
        network: info.name.clone(),
        listen: listen.clone(),
        upstream: info.network_dns_servers.clone().unwrap_or_default(),
        internal: info.internal,
        entries: Vec::new(),
    };
    let entry = Entry {
        id: input.container_id.clone(),
        names,
        addresses: task.wanted.static_ips.iter().flatten().copied().chain(own).collect(),
        upstream: input.dns_servers.clone().unwrap_or_default(),
    };
    state::make_dir(&server.dir)?;
    file::enter(&server.dir, &zone, &entry)?;
    if let Err(err) = server.notify() {
        silence(server, task)?;
        return Err(err).context("error while applying dns entries");
    }
    Ok((listen, vec![DOMAIN]))
}

/// Has the container's names answered no more.
///
/// # Errors
/// The file system's.
pub fn silence(server: &Server, task: &Task<'_>) -> Result<()> {
    file::leave(&server.dir, &task.info.name, &task.input.container_id)?;
    server.tell();
    Ok(())
}

/// `netavark update`: the servers that a network's containers use from now on.
///
/// # Errors
/// The file system's; a server that was killed cannot be started.
pub fn update(server: &Server, network: &str, servers: &[IpAddr]) -> Result<()> {
    if ![false, true].iter().any(|internal| server.dir.join(file_name(network, *internal)).exists()) {
        // Nobody is on it: podman tells us again when somebody is.
        return Ok(());
    }
    file::set_upstream(&server.dir, network, servers)?;
    server.notify()
}
