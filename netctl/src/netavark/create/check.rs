//! What is refused, in the peer's own words: podman's users search for them.

use std::net::IpAddr;

use anyhow::{Result, bail};

use super::definition::{Network, Range, Route, Subnet, Used};
use crate::cidr::{self, Cidr, bits};

const LONGEST_INTERFACE: usize = 15;
const ID_DIGITS: usize = 64;

/// Whether a network or a bridge may be called so.
pub fn is_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && text.bytes().all(is_inner)
}

/// The name is one and nobody else's, the id is one.
///
/// # Errors
/// What is wrong.
pub fn name_and_id(network: &Network, used: &Used) -> Result<()> {
    let Network { name, id, .. } = network;
    if name.is_empty() {
        bail!("Network name must be supplied");
    }
    if !is_name(name) {
        bail!("Invalid characters in network name {name:?}: must match [a-zA-Z0-9][a-zA-Z0-9_.-]*");
    }
    if used.names.contains_key(name) {
        bail!("network already exists {name}");
    }
    if id.is_empty() {
        bail!("Network id must be supplied");
    }
    if id.len() != ID_DIGITS || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        bail!("Network id must be a hexadecimal string of {ID_DIGITS} digits: {id:?}");
    }
    Ok(())
}

/// The kernel takes it for an interface's name.
///
/// # Errors
/// What is wrong.
pub fn interface(name: &str) -> Result<()> {
    if name.len() > LONGEST_INTERFACE {
        bail!(
            "Interface name is too long: interface names must be {LONGEST_INTERFACE} characters or less: {name}"
        );
    }
    if ["", ".", ".."].contains(&name) {
        bail!("Interface name cannot be empty, . or ..");
    }
    if let Some(bad) = name.chars().find(|char| ['/', ':'].contains(char) || char.is_whitespace()) {
        bail!("Interface name cannot contain {bad:?}");
    }
    Ok(())
}

/// Somebody known chooses addresses.
///
/// # Errors
/// What is wrong.
pub fn ipam(network: &Network) -> Result<()> {
    match network.ipam_driver() {
        None | Some("" | "host-local" | "dhcp") => Ok(()),
        Some("none") if network.subnet_count() == 0 => Ok(()),
        Some("none") => bail!("None ipam driver is set but subnets are given"),
        Some(other) => bail!("Unsupported ipam driver: {other}"),
    }
}

/// The network's subnets have no address in common.
///
/// # Errors
/// The first two that have.
pub fn apart(network: &Network) -> Result<()> {
    let subnets: Vec<Cidr> = network.subnets.iter().flatten().map(|subnet| subnet.subnet).collect();
    Ok(cidr::apart(&subnets)?)
}

/// A subnet is nobody else's, and what is said of it is in it. Gives it a gateway if it `has_gateway` but none is said.
///
/// # Errors
/// What is wrong.
pub fn subnet(subnet: &mut Subnet, has_gateway: bool, taken: &[Cidr]) -> Result<()> {
    let net = subnet.subnet;
    if taken.iter().any(|taken| taken.overlaps(net)) {
        bail!("subnet {net} is already used on the host or by another config");
    }
    match subnet.gateway {
        Some(gateway) if !net.contains(gateway) => bail!("gateway {gateway} not in subnet {net}"),
        Some(_) => {}
        None if has_gateway => subnet.gateway = Some(first_host(net)?),
        None => {}
    }
    subnet.lease_range.as_ref().map_or(Ok(()), |given| range(given, net))
}

fn first_host(net: Cidr) -> Result<IpAddr> {
    // An IPv4 subnet also has a first and a last address that nobody may have.
    let longest = bits(net.address) - u8::from(net.address.is_ipv4());
    if net.prefix >= longest {
        bail!(
            "could not create gateway for subnet {net} because it has a {longest} or greater subnet prefix"
        );
    }
    Ok(net.nth(1))
}

fn range(range: &Range, net: Cidr) -> Result<()> {
    let bound = |name: &str, text: Option<&str>| -> Result<Option<IpAddr>> {
        let Some(text) = text else { return Ok(None) };
        let address: IpAddr = match text.parse() {
            Ok(address) => address,
            Err(err) => bail!("invalid {name}: {err}"),
        };
        if !net.contains(address) {
            bail!("lease range {name} {address} not in subnet {net}");
        }
        Ok(Some(address))
    };
    let ends = (bound("start_ip", range.start_ip.as_deref())?, bound("end_ip", range.end_ip.as_deref())?);
    if let (Some(start), Some(end)) = ends
        && start > end
    {
        bail!("lease range start_ip {start} must be less than or equal to end_ip {end}");
    }
    Ok(())
}

/// A route leads to a network, by a gateway or nowhere.
///
/// # Errors
/// What is wrong.
pub fn route(route: &Route) -> Result<()> {
    let Route { destination, gateway, .. } = route;
    if destination.subnet() != *destination {
        bail!("route destination invalid");
    }
    let kind = route.route_type.as_deref().unwrap_or("unicast");
    match (kind, gateway) {
        ("unicast" | "", Some(_)) | ("blackhole" | "unreachable" | "prohibit", None) => Ok(()),
        ("unicast" | "", None) => bail!("route {destination} requires a gateway for type unicast"),
        ("blackhole" | "unreachable" | "prohibit", Some(_)) => {
            bail!("route {destination} must not have a gateway for type {kind}")
        }
        _ => bail!("invalid route type {kind:?}"),
    }
}
