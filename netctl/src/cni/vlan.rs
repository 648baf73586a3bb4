//! `vlan`, `vlanTrunk` and `preserveDefaultVlan`: the VLANs of the bridge that a container is in. The gateway of a VLAN
//! is no address of the bridge but of a link of its own that ends in that VLAN, `BRIDGE.VLAN`.

use std::fs::File;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use nix::errno::Errno;

use super::config::{Config, Trunk};
use super::failure::{INVALID_CONFIG, UNSUPPORTED_FIELD, fail};
use crate::netlink::link::{self, Link, Veth};
use crate::netlink::message::Batch;
use crate::netlink::socket::{Socket, errno};
use crate::network::{bridge, definition::random};

/// Whether the container is in any.
pub fn is_wanted(config: &Config) -> bool {
    config.vlan != 0 || !config.vlan_trunk.is_empty()
}

/// Reads the keys once.
///
/// # Errors
/// Number 7.
pub fn check(config: &Config) -> Result<()> {
    number("VLAN ID", config.vlan)?;
    if config.vlan != 0 && gateway_name(config).len() > 15 {
        fail!(INVALID_CONFIG, "interface name {:?} is longer than 15 characters", gateway_name(config));
    }
    config.vlan_trunk.iter().try_for_each(|trunk| range(trunk).map(|_| ()))
}

fn number(what: &str, number: i64) -> Result<u16> {
    match u16::try_from(number) {
        Ok(number) if number <= 4094 => Ok(number),
        _ => fail!(INVALID_CONFIG, "invalid {what} {number} (must be between 0 and 4094)"),
    }
}

fn range(trunk: &Trunk) -> Result<(u16, u16)> {
    let of = |id: i64| -> Result<u16> {
        match number("VLAN ID of a trunk", id)? {
            0 => fail!(INVALID_CONFIG, "VLAN 0 cannot be in a trunk"),
            id => Ok(id),
        }
    };
    match (trunk.min_id, trunk.max_id, trunk.id) {
        (Some(min), Some(max), None) if min <= max => Ok((of(min)?, of(max)?)),
        (Some(min), Some(max), None) => fail!(INVALID_CONFIG, "trunk: minID {min} is above maxID {max}"),
        (None, None, Some(id)) => Ok((of(id)?, of(id)?)),
        _ => fail!(INVALID_CONFIG, "trunk: needs an id, or minID and maxID"),
    }
}

/// The name of the link that has the gateway's addresses.
pub fn gateway_name(config: &Config) -> String {
    let bridge = config.bridge_name();
    if config.vlan == 0 { bridge.into() } else { format!("{bridge}.{}", config.vlan) }
}

/// Has a bridge tell VLANs apart.
///
/// # Errors
/// Number 2 where the kernel cannot.
pub fn tell_apart(host: &Socket, bridge: u32) -> Result<()> {
    let mut batch = Batch::new();
    link::filter_vlans(&mut batch, bridge);
    match host.run(&batch) {
        Err(err) if errno(&err) == Some(Errno::EOPNOTSUPP) => {
            fail!(UNSUPPORTED_FIELD, "vlan and vlanTrunk: {}", bridge::NO_VLANS)
        }
        other => other,
    }
}

/// Puts a port into the VLANs of its bridge.
///
/// # Errors
/// The kernel's refusal.
pub fn enter(host: &Socket, config: &Config, port: u32) -> Result<()> {
    let mut batch = Batch::new();
    if config.vlan != 0 {
        own(&mut batch, config, port)?;
    }
    for trunk in &config.vlan_trunk {
        link::carry_vlans(&mut batch, port, range(trunk)?);
    }
    host.run(&batch).with_context(|| format!("network {}", config.name))
}

/// Puts a port into its own VLAN, and out of the default one where that is wanted.
fn own(batch: &mut Batch, config: &Config, port: u32) -> Result<()> {
    if config.preserve_default_vlan == Some(false) {
        link::leave_vlans(batch, port);
    }
    link::set_vlan(batch, port, u32::try_from(config.vlan)?, false);
    Ok(())
}

/// The link for the gateway's addresses, made if it is missing. Like the bridge it stays when the last container leaves.
///
/// # Errors
/// As [`enter`].
pub fn gateway(host: &Socket, config: &Config, bridge: &Link) -> Result<Link> {
    let name = gateway_name(config);
    let found = link::find(host, &name)?;
    if found.is_none() {
        let own = File::open("/proc/self/ns/net").context("open the own network namespace")?;
        let suffix: String = random::<4>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let port = format!("veth{suffix}");
        let mut batch = Batch::new();
        let mac = bridge::local_mac(&random()?);
        let veth = Veth { host: &port, inside: &name, mac, mtu: bridge.mtu, bridge: bridge.index };
        link::add_veth(&mut batch, veth, own.as_fd());
        host.run(&batch).with_context(|| format!("network {}", config.name))?;
    }
    let link = link::find(host, &name)?.with_context(|| format!("{name} is gone"))?;
    let mut batch = Batch::new();
    match found {
        // Again: whoever made it may have been killed before this. Whether it left the default VLAN was theirs to say.
        Some(_) if link.kind == "veth" => {
            link::set_vlan(&mut batch, link.peer, u32::try_from(config.vlan)?, false);
        }
        // Somebody else's.
        Some(_) => return Ok(link),
        None => own(&mut batch, config, link.peer)?,
    }
    if let Err(err) = host.run(&batch) {
        let _ = link::remove(host, &name);
        return Err(err).with_context(|| format!("network {}", config.name));
    }
    Ok(link)
}
