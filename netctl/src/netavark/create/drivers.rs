//! What each driver adds to a definition.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use nix::net::if_::if_nametoindex;

use super::check::is_name;
use super::definition::{Network, Options, Used};
use super::subnet::{free_v4, free_v6};
use crate::netavark::input::Info;
use crate::netavark::{bridge, plugin, slice};

const BRIDGE: [&str; 7] = ["mode", "mtu", "isolate", "metric", "no_default_route", "vrf", "vlan"];
const SLICE: [&str; 5] = ["mode", "mtu", "metric", "no_default_route", "bclim"];
/// So many interfaces may be there already.
const MOST: u32 = 1_000_000;

/// The definition as `setup` reads it, whose checks of options are these ones.
fn as_setup(network: &Network) -> Result<Info> {
    Ok(serde_json::from_value(serde_json::to_value(network)?)?)
}

fn only(options: Option<&BTreeMap<String, String>>, known: &[&str], kind: &str) -> Result<()> {
    let mut keys = options.into_iter().flatten().map(|(key, _)| key.as_str());
    match keys.find(|key| !known.contains(key)) {
        Some(key) => bail!("unsupported {kind} network option: {key}"),
        None => Ok(()),
    }
}

/// Checks a bridge's options and says docker's in podman's words. Whether the bridge is the network's own: neither
/// its name nor its subnets may be another's.
///
/// # Errors
/// What is wrong.
pub fn bridge_options(network: &mut Network) -> Result<bool> {
    let Some(options) = &mut network.options else { return Ok(true) };
    if let Some(mtu) = options.remove("com.docker.network.driver.mtu") {
        options.insert("mtu".into(), mtu);
    }
    if let Some(name) = options.remove("com.docker.network.bridge.name") {
        network.network_interface = Some(name);
    }
    only(network.options.as_ref(), &BRIDGE, "bridge")?;
    let info = as_setup(network)?;
    bridge::check_options(&info)?;
    Ok(info.option("vlan").is_none() && info.option("mode") != Some("unmanaged"))
}

/// Gives a bridge its name and its subnets.
///
/// # Errors
/// What is wrong.
pub fn bridge(network: &mut Network, used: &Used, options: &Options, is_own: bool) -> Result<()> {
    match &network.network_interface {
        Some(name) if is_own && used.interfaces.contains(name) => bail!("bridge name {name} already in use"),
        Some(name) if !is_name(name) => bail!("bridge name {name} is invalid"),
        Some(_) => {}
        None => network.network_interface = Some(free_interface(used, options)?),
    }
    if !matches!(network.ipam_driver(), None | Some("" | "host-local")) {
        return Ok(());
    }
    let taken: &[_] = if is_own && options.check_used_subnets { &used.subnets } else { &[] };
    let mut subnets = network.subnets.take().unwrap_or_default();
    let has = |subnets: &[super::definition::Subnet], v4: bool| {
        subnets.iter().any(|subnet| subnet.subnet.address.is_ipv4() == v4)
    };
    if subnets.is_empty() || network.ipv6_enabled && !has(&subnets, true) {
        subnets.push(free_v4(taken, &options.subnet_pools)?);
    }
    if network.ipv6_enabled && !has(&subnets, false) {
        subnets.push(free_v6(&used.subnets)?);
    }
    network.subnets = Some(subnets);
    network.set_ipam_driver("host-local");
    Ok(())
}

fn free_interface(used: &Used, options: &Options) -> Result<String> {
    let prefix = options.default_interface_name.as_deref().context("default interface name is not set")?;
    let is_free = |name: &String| {
        !used.interfaces.contains(name)
            && !used.names.contains_key(name)
            && if_nametoindex(name.as_str()).is_err()
    };
    (1..MOST)
        .map(|number| format!("{prefix}{number}"))
        .find(is_free)
        .with_context(|| format!("could not find a free device name after {MOST} attempts"))
}

/// Decides who chooses a macvlan's or ipvlan's addresses.
///
/// # Errors
/// What is wrong.
pub fn slice(network: &mut Network) -> Result<()> {
    if let Some(parent) = &network.network_interface
        && if_nametoindex(parent.as_str()).is_err()
    {
        bail!("parent interface {parent} does not exist");
    }
    // Its containers do not reach the host, where names are answered.
    network.dns_enabled = false;
    let (driver, is_macvlan) = (network.driver.clone(), network.driver == "macvlan");
    match (network.ipam_driver().unwrap_or_default(), network.subnet_count()) {
        ("" | "dhcp", 0) if !is_macvlan => bail!("ipam driver dhcp is not supported with ipvlan"),
        ("", 0) => network.set_ipam_driver("dhcp"),
        ("", _) => network.set_ipam_driver("host-local"),
        ("host-local", 0) => bail!(
            "{driver} driver needs at least one subnet specified when the host-local ipam driver is set"
        ),
        ("dhcp", 1..) if !is_macvlan => bail!("ipam driver dhcp is not supported with ipvlan"),
        ("dhcp", 1..) => bail!("ipam driver dhcp set but subnets are set"),
        _ => {}
    }
    only(network.options.as_ref(), &SLICE, "vlan")?;
    slice::check_options(&as_setup(network)?)
}

/// Asks a driver that is a program.
///
/// # Errors
/// There is none of that name; what it said; it changed what is not its own.
pub fn plugin(network: &mut Network, plugins: &[PathBuf]) -> Result<()> {
    let driver = &network.driver;
    if plugins.is_empty() {
        bail!("plugin directory not provided");
    }
    let Ok(program) = plugin::find(plugins, driver) else {
        bail!("plugin for driver {driver:?} not found in plugin directories")
    };
    let said = plugin::create(&program, &serde_json::to_value(&*network)?)?;
    let made: Network =
        serde_json::from_str(&said).with_context(|| format!("plugin {}: its answer", program.display()))?;
    for (what, before, after) in [
        ("name", &network.name, &made.name),
        ("ID", &network.id, &made.id),
        ("driver", &network.driver, &made.driver),
    ] {
        if before != after {
            bail!("{driver} plugin invalid result: changed network {what}");
        }
    }
    *network = made;
    Ok(())
}
