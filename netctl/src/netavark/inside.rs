//! The container's side of any driver: addresses, routes, switches; and what podman is told of it.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::input::Info;
use super::task::Task;
use crate::attach::namespace;
use crate::cidr::Cidr;
use crate::dhcp::{self, Wanted, lease::Lease};
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::netlink::route::{self, Route};
use crate::state::State;

/// Unless the network says otherwise.
const METRIC: u32 = 100;
/// A macvlan or ipvlan on the side of a bridge is the better way out.
const SLICE_METRIC: u32 = 99;

/// Gives the new interface its addresses and routes and brings it up.
///
/// # Errors
/// The kernel's refusal.
pub fn configure(task: &Task<'_>) -> Result<()> {
    let (info, name) = (&task.info, &task.wanted.interface_name);
    let addresses = info.addresses(&task.wanted)?;
    let has_v6 = addresses.iter().any(|(address, _)| address.address.is_ipv6());
    let namespace = task.inside()?;
    namespace::within(&namespace.file, || {
        // None of them is worth failing for: a kernel without one of them does not need it.
        let set = |switch: &str, value| {
            let _ = std::fs::write(format!("/proc/sys/net/{switch}"), value);
        };
        set(&format!("ipv4/conf/{name}/arp_notify"), "1");
        set(&format!("ipv4/conf/{name}/rp_filter"), "2");
        set(&format!("ipv6/conf/{name}/autoconf"), "0");
        if has_v6 {
            set(&format!("ipv6/conf/{name}/disable_ipv6"), "0");
        }
    })?;
    let inside = link::find(&namespace.inside, name)?.context("the interface is gone")?;
    let mut batch = Batch::new();
    for (address, _) in &addresses {
        link::add_address(&mut batch, inside.index, *address);
    }
    link::set_up(&mut batch, inside.index, name);
    let metric = metric(info)?;
    if !info.internal && !info.switch("no_default_route")? {
        let mut gateways: Vec<IpAddr> = addresses.iter().filter_map(|(_, gateway)| *gateway).collect();
        gateways.sort();
        gateways.dedup();
        for gateway in gateways {
            let route = Route::new(Cidr::any(gateway), Some(gateway), inside.index);
            // Each network brings one; the first goes before the others.
            route::append(&mut batch, &Route { metric, ..route });
        }
    }
    for wanted in info.routes.iter().flatten() {
        let route = Route::new(wanted.destination, wanted.gateway, 0);
        let metric = wanted.metric.unwrap_or(metric);
        route::add(&mut batch, &Route { metric, fate: wanted.fate()?, ..route });
    }
    namespace.inside.run(&batch).with_context(|| format!("configure {name}"))
}

/// Asks the network's own server for the address of a configured interface, where it is that server's to give.
///
/// # Errors
/// Nobody gives one.
pub fn ask(state: &State, task: &Task<'_>) -> Result<Option<Lease>> {
    let (info, input) = (&task.info, task.input);
    if info.ipam_driver() != Some("dhcp") {
        return Ok(None);
    }
    let has_way_out = !info.internal && !info.switch("no_default_route")?;
    let wanted = Wanted {
        id: &input.container_id,
        hostname: input.container_hostname.as_deref().unwrap_or_default(),
        interface: &task.wanted.interface_name,
        netns: task.netns,
        metric: if has_way_out { Some(metric(info)?) } else { None },
    };
    let namespace = task.inside()?;
    state
        .meanwhile(|| dhcp::obtain(&state.path(&["dhcp"]), namespace, wanted))?
        .map(Some)
        // The peer's own words: podman's users search for them.
        .context("unable to obtain lease")
}

/// Gives that address back.
///
/// # Errors
/// The file system's.
pub fn give_back(state: &State, task: &Task<'_>) -> Result<()> {
    dhcp::release(&state.path(&["dhcp"]), &task.input.container_id, Some(&task.wanted.interface_name))
}

/// The metric of the network's routes.
///
/// # Errors
/// It is no number.
pub fn metric(info: &Info) -> Result<u32> {
    let usual = if info.driver == "bridge" { METRIC } else { SLICE_METRIC };
    Ok(info.number("metric")?.unwrap_or(usual))
}

/// Removes the interface, if it and its namespace are still there.
///
/// # Errors
/// The kernel's refusal.
pub fn unplug(task: &Task<'_>) -> Result<()> {
    remove_routes(task);
    match task.namespace {
        Some(namespace) => link::remove(&namespace.inside, &task.wanted.interface_name),
        None => Ok(()),
    }
}

/// Removes the network's own routes.
pub fn remove_routes(task: &Task<'_>) {
    let Some(namespace) = task.namespace else { return };
    for wanted in task.info.routes.iter().flatten() {
        // Those over other interfaces do not go with ours; one that has gone is no error.
        let mut batch = Batch::new();
        let Ok(fate) = wanted.fate() else { continue };
        route::remove(&mut batch, wanted.destination, wanted.gateway, fate);
        let _ = namespace.inside.run(&batch);
    }
}

/// What podman wants to know.
///
/// # Errors
/// The interface is gone.
pub fn status(task: &Task<'_>, lease: Option<&Lease>, servers: &[IpAddr], domains: &[&str]) -> Result<Value> {
    let name = &task.wanted.interface_name;
    let inside = link::find(&task.inside()?.inside, name)?.context("the interface is gone")?;
    let mac = inside.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let leased = lease.and_then(|lease| Some((lease.address?, lease.gateway())));
    let (mut servers, mut domains) = (servers.to_vec(), domains.to_vec());
    if let Some(lease) = lease {
        if servers.is_empty() && task.input.dns_servers.is_none() {
            servers.clone_from(&lease.names);
        }
        domains.extend(Some(lease.domain.as_str()).filter(|domain| !domain.is_empty()));
    }
    let given = task.info.addresses(&task.wanted)?;
    let subnets: Vec<Value> = given
        .iter()
        .chain(leased.iter())
        .map(|(address, gateway)| json!({"gateway": gateway.filter(|_| !task.info.internal), "ipnet": address}))
        .collect();
    Ok(json!({
        "dns_search_domains": domains, "dns_server_ips": servers,
        "interfaces": {name: {"mac_address": mac, "subnets": subnets}},
    }))
}
