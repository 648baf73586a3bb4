//! The container's side of any driver: addresses, routes, switches; and what podman is told of it.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::setup::Task;
use crate::attach::namespace;
use crate::cidr::Cidr;
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::netlink::route::{self, Route};

/// Unless the network says otherwise.
const METRIC: u32 = 100;

/// Gives the new interface its addresses and routes and brings it up.
///
/// # Errors
/// The kernel's refusal.
pub fn configure(task: &Task<'_>) -> Result<()> {
    let (info, name) = (&task.info, &task.wanted.interface_name);
    let addresses = info.addresses(&task.wanted)?;
    let has_v6 = addresses.iter().any(|(address, _)| address.address.is_ipv6());
    namespace::within(&task.namespace.file, || {
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
    let inside = link::find(&task.namespace.inside, name)?.context("the interface is gone")?;
    let mut batch = Batch::new();
    for (address, _) in &addresses {
        link::add_address(&mut batch, inside.index, *address);
    }
    link::set_up(&mut batch, inside.index, name);
    let metric = info.number("metric")?.unwrap_or(METRIC);
    if !info.internal && !info.switch("no_default_route")? {
        for gateway in addresses.iter().filter_map(|(_, gateway)| *gateway) {
            let any: IpAddr = if gateway.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let route = Route::new(Cidr { address: any, prefix: 0 }, Some(gateway), inside.index);
            // Each network brings one; the first goes before the others.
            route::append(&mut batch, &Route { metric, ..route });
        }
    }
    for wanted in info.routes.iter().flatten() {
        let route = Route::new(wanted.destination, Some(wanted.gateway), 0);
        route::add(&mut batch, &Route { metric: wanted.metric.unwrap_or(metric), ..route });
    }
    task.namespace.inside.run(&batch).with_context(|| format!("configure {name}"))
}

/// Removes the interface, if it and its namespace are still there.
///
/// # Errors
/// The kernel's refusal.
pub fn unplug(task: &Task<'_>) -> Result<()> {
    remove_routes(task);
    link::remove(&task.namespace.inside, &task.wanted.interface_name)
}

/// Removes the network's own routes.
pub fn remove_routes(task: &Task<'_>) {
    for wanted in task.info.routes.iter().flatten() {
        // Those over other interfaces do not go with ours; one that has gone is no error.
        let mut batch = Batch::new();
        route::remove(&mut batch, wanted.destination, wanted.gateway);
        let _ = task.namespace.inside.run(&batch);
    }
}

/// What podman wants to know.
///
/// # Errors
/// The interface is gone.
pub fn status(task: &Task<'_>, servers: &[IpAddr], domains: &[&str]) -> Result<Value> {
    let name = &task.wanted.interface_name;
    let inside = link::find(&task.namespace.inside, name)?.context("the interface is gone")?;
    let mac = inside.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let subnets: Vec<Value> = task
        .info
        .addresses(&task.wanted)?
        .iter()
        .map(|(address, gateway)| json!({"gateway": gateway.filter(|_| !task.info.internal), "ipnet": address}))
        .collect();
    Ok(json!({
        "dns_search_domains": domains, "dns_server_ips": servers,
        "interfaces": {name: {"mac_address": mac, "subnets": subnets}},
    }))
}
