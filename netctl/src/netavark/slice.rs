//! The macvlan and ipvlan drivers.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};

use super::input::Info;
use super::inside;
use super::task::Task;
use crate::attach::request::mac_address;
use crate::netlink::link::{self, Mode, Slice};
use crate::netlink::message::Batch;
use crate::netlink::route;
use crate::netlink::socket::Socket;
use crate::state::State;

/// Checks everything that can be checked before anything is made.
///
/// # Errors
/// What is wrong.
pub fn check(task: &Task<'_>) -> Result<()> {
    check_options(&task.info)?;
    if task.info.driver == "ipvlan" && task.info.ipam_driver() == Some("dhcp") {
        bail!("ipam driver dhcp is not supported with ipvlan");
    }
    task.info.addresses(&task.wanted).map(|_| ())
}

/// Reads every option once.
///
/// # Errors
/// The first that is wrong.
pub fn check_options(info: &Info) -> Result<()> {
    mode(info)?;
    broadcast_limit(info)?;
    info.number("mtu")?;
    info.number("metric")?;
    info.switch("no_default_route").map(|_| ())
}

fn broadcast_limit(info: &Info) -> Result<Option<i32>> {
    let Some(text) = info.option("bclim") else { return Ok(None) };
    if info.driver != "macvlan" {
        bail!("unsupported {} network option bclim", info.driver);
    }
    match text.parse() {
        Ok(limit) => Ok(Some(limit)),
        Err(err) => bail!("unable to parse \"bclim\": {err}"),
    }
}

fn mode(info: &Info) -> Result<Mode> {
    Ok(match (info.driver.as_str(), info.option("mode")) {
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
pub fn add(state: &State, host: &Socket, task: &Task<'_>) -> Result<serde_json::Value> {
    let parent = match task.info.network_interface.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => link::find(host, name)?.map(|link| link.index),
        None => route::default_link(host)?,
    };
    let parent =
        parent.with_context(|| format!("network {}: the parent interface is missing", task.info.name))?;
    let (mode, broadcast_limit) = (mode(&task.info)?, broadcast_limit(&task.info)?);
    let given = task.wanted.static_mac.as_deref().filter(|mac| !mac.is_empty());
    let mac = given.map(mac_address).transpose()?;
    let mtu = task.info.number("mtu")?;
    let mut batch = Batch::new();
    let slice = Slice { parent, inside: &task.wanted.interface_name, mac, mtu, mode, broadcast_limit };
    link::add_slice(&mut batch, slice, task.inside()?.file.as_fd());
    host.run(&batch).with_context(|| format!("network {}", task.info.name))?;
    inside::configure(task)?;
    let lease = inside::ask(state, task)?;
    inside::status(task, lease.as_ref(), &[], &[])
}
