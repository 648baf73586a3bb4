//! `netavark create`: podman says what a network shall be and what others use already; the answer is the whole
//! definition, which podman keeps. Nothing is made in the kernel and no file is written.

mod check;
mod definition;
mod drivers;
mod subnet;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use definition::{Asked, Network};

/// Completes the definition in `text`.
///
/// # Errors
/// What is wrong with it, in the peer's own words: podman's users search for them.
pub fn create(text: &str, plugins: &[PathBuf]) -> Result<Value> {
    let asked: Asked = serde_json::from_str(text).context("failed to load network create: IO error")?;
    let Asked { mut network, used, options } = asked;
    check::name_and_id(&network, &used)?;
    if let Some(interface) = &network.network_interface {
        check::interface(interface)?;
    }
    check::ipam(&network)?;
    let mut is_exclusive = false;
    match network.driver.as_str() {
        "bridge" => {
            let is_own = drivers::bridge_options(&mut network)?;
            is_exclusive = is_own && options.check_used_subnets;
            drivers::bridge(&mut network, &used, &options, is_own)?;
        }
        "macvlan" | "ipvlan" => drivers::slice(&mut network)?,
        _ => drivers::plugin(&mut network, plugins)?,
    }
    finish(&mut network, if is_exclusive { &used.subnets } else { &[] })?;
    Ok(serde_json::to_value(network)?)
}

/// What all drivers have in common. `taken` are the subnets that it must keep out of.
fn finish(network: &mut Network, taken: &[crate::cidr::Cidr]) -> Result<()> {
    if network.ipam_driver() == Some("none") {
        network.dns_enabled = false;
    }
    if network.network_dns_servers.is_some() && !network.dns_enabled {
        bail!("cannot set NetworkDNSServers if DNS is not enabled for the network");
    }
    check::apart(network)?;
    let has_gateway = !network.internal || network.dns_enabled;
    for subnet in network.subnets.iter_mut().flatten() {
        check::subnet(subnet, has_gateway, taken)?;
        network.ipv6_enabled |= subnet.subnet.address.is_ipv6();
    }
    for route in network.routes.iter().flatten() {
        check::route(route)?;
    }
    network.created = Some(jiff::Timestamp::now().to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A request for network `n`, with these keys changed.
    fn asked(changes: &Value) -> Value {
        let mut asked = json!({
            "network": {
                "name": "n", "id": "a".repeat(64), "driver": "bridge", "dns_enabled": true, "internal": false,
                "ipv6_enabled": false,
            },
            "used": {"interfaces": ["podman1", "mine"], "names": {"old": "b"}, "subnets": ["10.89.0.0/24"]},
            "options": {
                "subnet_pools": [{"base": "10.89.0.0/16", "size": 24}], "default_interface_name": "podman",
                "check_used_subnets": true,
            },
        });
        for (key, value) in changes.as_object().unwrap() {
            asked["network"][key] = value.clone();
        }
        asked
    }

    fn made(changes: &Value) -> Result<Value> {
        create(&asked(changes).to_string(), &[])
    }

    #[test]
    fn what_is_not_said_is_chosen() {
        let network = made(&json!({"labels": {"a": "b"}})).unwrap();
        assert_eq!(network["network_interface"], "podman2", "podman1 is used");
        assert_eq!(network["subnets"], json!([{"subnet": "10.89.1.0/24", "gateway": "10.89.1.1"}]));
        assert_eq!(network["ipam_options"]["driver"], "host-local");
        assert_eq!(network["labels"]["a"], "b");
        assert!(network.get("routes").is_none() && network["created"].is_string());
        let both = made(&json!({"ipv6_enabled": true})).unwrap();
        assert!(both["subnets"][1]["subnet"].as_str().unwrap().starts_with("fd"), "{both}");
        let shared = made(&json!({"options": {"vlan": "5"}, "network_interface": "mine"})).unwrap();
        assert_eq!(shared["subnets"][0]["subnet"], "10.89.0.0/24", "a VLAN of its own may have them");
        let docker = made(&json!({"options": {"com.docker.network.bridge.name": "br9"}})).unwrap();
        assert_eq!(docker["network_interface"], "br9");
        let inner = made(&json!({"internal": true, "dns_enabled": false})).unwrap();
        assert!(inner["subnets"][0].get("gateway").is_none(), "{inner}");
        let dhcp = made(&json!({"driver": "macvlan"})).unwrap();
        assert_eq!(dhcp["ipam_options"]["driver"], "dhcp");
        assert_eq!(dhcp["dns_enabled"], false);
        let bare = made(&json!({"ipam_options": {"driver": "none"}})).unwrap();
        assert!(bare.get("subnets").is_none() && bare["dns_enabled"] == false, "{bare}");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let subnet = |text: &str| json!({"subnets": [{"subnet": text}]});
        for (changes, why) in [
            (json!({"name": ""}), "Network name must be supplied"),
            (json!({"name": "a b"}), "Invalid characters in network name \"a b\""),
            (json!({"name": "old"}), "network already exists old"),
            (json!({"id": ""}), "Network id must be supplied"),
            (json!({"id": "abc"}), "must be a hexadecimal string of 64"),
            (json!({"network_interface": "sixteen-letters-"}), "15 characters or less"),
            (json!({"network_interface": "a/b"}), "cannot contain"),
            (json!({"network_interface": "mine"}), "bridge name mine already in use"),
            (json!({"ipam_options": {"driver": "magic"}}), "Unsupported ipam driver: magic"),
            (json!({"options": {"mtu": "abc"}}), "unable to parse \"mtu\": invalid digit found in string"),
            (json!({"options": {"vlan": "4095"}}), "vlan must be between 0 and 4094"),
            (json!({"options": {"isolate": "x"}}), "isolate"),
            (json!({"options": {"nosuch": "x"}}), "unsupported bridge network option: nosuch"),
            (json!({"driver": "macvlan", "options": {"vlan": "5"}}), "unsupported vlan network option: vlan"),
            (json!({"driver": "macvlan", "options": {"mode": "x"}}), "mode"),
            (json!({"driver": "ipvlan"}), "ipam driver dhcp is not supported with ipvlan"),
            (json!({"driver": "nosuch"}), "plugin directory not provided"),
            (json!({"network_dns_servers": ["1.1.1.1"], "dns_enabled": false}), "DNS is not enabled"),
            (subnet("10.89.0.128/25"), "subnet 10.89.0.128/25 is already used"),
            (subnet("192.168.0.0/32"), "could not create gateway for subnet 192.168.0.0/32"),
            (subnet("x"), "invalid IP address syntax"),
            (json!({"subnets": [{"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}]}), "not in subnet"),
            (
                json!({"subnets": [{"subnet": "10.1.2.0/23"}, {"subnet": "10.1.3.248/30"}]}),
                "overlapping subnets: 10.1.2.0/23 and 10.1.3.248/30",
            ),
            (
                json!({"subnets": [{"subnet": "10.1.2.0/24", "lease_range": {"start_ip": "10.3.0.1"}}]}),
                "lease range start_ip 10.3.0.1 not in subnet",
            ),
            (
                json!({"routes": [{"destination": "10.3.0.1/24", "gateway": "10.1.0.1"}]}),
                "destination invalid",
            ),
            (json!({"routes": [{"destination": "10.3.0.0/24"}]}), "requires a gateway for type unicast"),
            (
                json!({"routes": [{"destination": "10.3.0.0/24", "gateway": "10.1.0.1", "route_type": "blackhole"}]}),
                "must not have a gateway for type blackhole",
            ),
        ] {
            let err = made(&changes).expect_err(&changes.to_string());
            assert!(format!("{err:#}").contains(why), "{changes}: {err:#}");
        }
    }
}
