//! Network flags as netctl's request.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::network::{Attachment, Dns, Request};

use super::{links, ports};
use crate::cli::NetworkFlags;
use crate::container::Store;

/// What to ask of `netctl up`; `container:NAME` is resolved to an id here, once.
pub fn request(store: &Store, flags: &NetworkFlags) -> Result<Request> {
    let mut request = Request { version: 1, ..Request::default() };
    for text in &flags.network {
        request.networks.push(attachment(text)?);
    }
    if request.networks.is_empty() {
        request.networks.push(Attachment { network: "bridge".into(), ..Attachment::default() });
    }
    let special = |name: &str| matches!(name, "none" | "host") || name.starts_with("container:");
    if request.networks.len() > 1 && request.networks.iter().any(|at| special(&at.network)) {
        fault!(
            Usage,
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        );
    }
    let first = &mut request.networks[0];
    first.aliases.extend(flags.network_alias.iter().cloned());
    first.ip = flags.ip.map(IpAddr::V4).or(first.ip);
    first.ip6 = flags.ip6.map(IpAddr::V6).or(first.ip6);
    first.mac = flags.mac_address.clone().or(first.mac.take());
    if first.mac.as_deref().is_some_and(|mac| !is_mac(mac)) {
        fault!(Usage, "{} is not a valid mac address", first.mac.as_deref().unwrap_or_default());
    }
    let named = special(&first.network);
    if named && (!first.aliases.is_empty() || first.ip.is_some() || first.ip6.is_some()) {
        fault!(
            Usage,
            "invalid config for network {}: network-scoped alias and addresses need a network",
            first.network
        );
    }
    if let Some(other) = first.network.strip_prefix("container:") {
        conflicts_with_shared(flags)?;
        let id = store.resolve(other).context("joining network namespace of container")?;
        first.network = format!("container:{id}");
    }
    if !flags.link_local_ip.is_empty() {
        fault!(Unsupported, "--link-local-ip is not supported");
    }
    for text in &flags.publish {
        request.ports.extend(ports::parse(text)?);
    }
    for text in &flags.expose {
        ports::exposed(text)?;
    }
    request.dns = Dns {
        servers: flags.dns.clone(),
        search: flags.dns_search.clone(),
        options: flags.dns_option.clone(),
    };
    for text in &flags.add_host {
        // `=` is docker's newer separator; it leaves IPv6 addresses readable.
        match text.split_once('=').or_else(|| text.split_once(':')) {
            Some((name, address))
                if !name.is_empty() && (address == "host-gateway" || ip(address).is_some()) =>
            {
                let address = ip(address).map_or_else(|| address.to_owned(), |ip| ip.to_string());
                request.extra_hosts.push((name.into(), address));
            }
            _ => fault!(
                Usage,
                "invalid argument \"{text}\" for \"--add-host\" flag: bad format for add-host: \"{text}\""
            ),
        }
    }
    links::hosts(store, &flags.link, &mut request)?;
    Ok(request)
}

fn ip(text: &str) -> Option<IpAddr> {
    text.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn conflicts_with_shared(flags: &NetworkFlags) -> Result<()> {
    if !flags.link.is_empty() {
        fault!(
            Usage,
            "conflicting options: container type network can't be used with links. This would result in undefined \
             behavior"
        );
    }
    let why = match () {
        () if !flags.publish.is_empty() || flags.publish_all => "port publishing",
        () if !flags.expose.is_empty() => "port exposing",
        () if !flags.dns.is_empty() => "dns",
        () if !flags.add_host.is_empty() => "custom host-to-IP mapping",
        () if flags.mac_address.is_some() => "mac-address",
        () => return Ok(()),
    };
    fault!(Usage, "conflicting options: {why} and the container type network mode")
}

/// `NAME`, or docker's long form `name=NAME,alias=A,ip=…`.
fn attachment(text: &str) -> Result<Attachment> {
    let mut at = Attachment::default();
    if !text.contains('=') {
        at.network = if text == "default" { "bridge".into() } else { text.into() };
        return Ok(at);
    }
    for (place, field) in text.split(',').enumerate() {
        let wrong = || format!("invalid argument \"{text}\" for \"--network\" flag: invalid field {field}");
        let Some((key, value)) = field.split_once('=') else {
            // podman's form, NET,ip=…, is as clear.
            if place == 0 {
                at.network = field.into();
                continue;
            }
            fault!(Usage, "{}", wrong())
        };
        match (key.to_ascii_lowercase().as_str(), value.parse::<IpAddr>()) {
            ("name", _) => at.network = value.into(),
            ("alias", _) => at.aliases.push(value.into()),
            ("ip", Ok(ip)) => at.ip = Some(ip),
            ("ip6", Ok(ip)) => at.ip6 = Some(ip),
            ("mac-address" | "mac", _) => at.mac = Some(value.into()),
            ("interface-name" | "interface_name", _) => at.interface = Some(value.into()),
            ("gw-priority", _) => match value.parse() {
                Ok(priority) => at.gw_priority = priority,
                Err(_) => fault!(
                    Usage,
                    "invalid argument \"{text}\" for \"--network\" flag: invalid gw-priority ({value}): not a number"
                ),
            },
            _ => fault!(Usage, "{}", wrong()),
        }
    }
    if at.network.is_empty() {
        fault!(Usage, "invalid argument \"{text}\" for \"--network\" flag: network name/id is not specified");
    }
    Ok(at)
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_forms() {
        let at = attachment("name=n1,alias=a,alias=b,ip=10.1.2.3").unwrap();
        assert_eq!((at.network.as_str(), at.aliases.len(), at.ip.is_some()), ("n1", 2, true));
        assert_eq!(attachment("default").unwrap().network, "bridge");
        assert_eq!(attachment("n1,ip=10.1.2.3").unwrap().network, "n1");
        assert_eq!(attachment("name=n1,gw-priority=-3").unwrap().gw_priority, -3);
        for wrong in ["alias=x", "name=n,ip=x", "name=n,bogus=1", "name=n,gw-priority=high"] {
            assert!(attachment(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hardware_addresses() {
        assert!(is_mac("02:42:ac:11:65:43") && !is_mac("02:42") && !is_mac("0g:42:ac:11:65:43"));
    }
}
