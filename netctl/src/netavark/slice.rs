//! The macvlan and ipvlan drivers.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use contracts::fault;

use super::inside;
use super::setup::Task;
use crate::attach::request::mac_address;
use crate::netlink::link::{self, Mode, Slice};
use crate::netlink::message::Batch;
use crate::netlink::route;
use crate::netlink::socket::Socket;

/// Checks everything that can be checked before anything is made.
///
/// # Errors
/// What is wrong.
pub fn check(task: &Task<'_>) -> Result<()> {
    if task.info.option("bclim").is_some() {
        fault!(Unsupported, "network {}: option bclim is not supported", task.info.name);
    }
    mode(task)?;
    task.info.addresses(&task.wanted)?;
    task.info.number("mtu")?;
    task.info.number("metric")?;
    task.info.switch("no_default_route").map(|_| ())
}

fn mode(task: &Task<'_>) -> Result<Mode> {
    Ok(match (task.info.driver.as_str(), task.info.option("mode")) {
        ("macvlan", None | Some("bridge")) => Mode::MACVLAN_BRIDGE,
        ("macvlan", Some("private")) => Mode::Macvlan(1),
        ("macvlan", Some("vepa")) => Mode::Macvlan(2),
        ("macvlan", Some("passthru")) => Mode::Macvlan(8),
        ("macvlan", Some("source")) => Mode::Macvlan(16),
        ("ipvlan", None | Some("l2")) => Mode::Ipvlan(0),
        ("ipvlan", Some("l3")) => Mode::Ipvlan(1),
        ("ipvlan", Some("l3s")) => Mode::Ipvlan(2),
        (driver, other) => bail!("invalid {driver} mode {:?}", other.unwrap_or_default()),
    })
}

/// Plugs the container in.
///
/// # Errors
/// The kernel's refusal.
pub fn add(host: &Socket, task: &Task<'_>) -> Result<serde_json::Value> {
    let parent = match task.info.network_interface.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => link::find(host, name)?.map(|link| link.index),
        None => route::default_link(host)?,
    };
    let parent =
        parent.with_context(|| format!("network {}: the parent interface is missing", task.info.name))?;
    let mode = mode(task)?;
    let given = task.wanted.static_mac.as_deref().filter(|mac| !mac.is_empty());
    let mac = given.map(mac_address).transpose()?;
    let mtu = task.info.number("mtu")?;
    let mut batch = Batch::new();
    let slice = Slice { parent, inside: &task.wanted.interface_name, mac, mtu, mode };
    link::add_slice(&mut batch, slice, task.namespace.file.as_fd());
    host.run(&batch).with_context(|| format!("network {}", task.info.name))?;
    inside::configure(task)?;
    inside::status(task, &[], &[])
}
