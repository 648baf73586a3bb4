//! What `up` was asked, checked before anything is touched.

use contracts::network::{Attachment, Request};
use contracts::{fault, name};

use crate::firewall::protocol_number;
use crate::network::DEFAULT;

/// How the container is on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// In the caller's own network namespace.
    Host,
    /// In a namespace of its own with only loopback.
    None,
    /// In the namespace of another attachment.
    Container(String),
    /// On networks.
    Networks(Vec<Attachment>),
}

/// Reads and checks a request.
///
/// # Errors
/// `Usage`, naming what is wrong.
pub fn mode(request: &Request) -> anyhow::Result<Mode> {
    for port in &request.ports {
        if protocol_number(&port.protocol).is_none() {
            fault!(Usage, "port {}: unknown protocol {:?}", port.container_port, port.protocol);
        }
        if port.container_port == 0 {
            fault!(Usage, "cannot publish port 0 of the container");
        }
    }
    for text in [&request.name, &request.hostname, &request.domainname] {
        check_host_name(text)?;
    }
    for (host, address) in &request.extra_hosts {
        check_host_name(host)?;
        if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
            fault!(Usage, "host {host}: invalid address {address:?}");
        }
    }
    for word in request.dns.search.iter().chain(&request.dns.options) {
        if word.is_empty() || word.len() > 255 || !word.bytes().all(|byte| byte.is_ascii_graphic()) {
            fault!(Usage, "invalid resolver setting {word:?}");
        }
    }
    let mut networks = request.networks.clone();
    if networks.is_empty() {
        networks.push(Attachment { network: DEFAULT.into(), ..Attachment::default() });
    }
    let special = |wanted: &str| ["host", "none"].contains(&wanted) || wanted.starts_with("container:");
    if let [only] = &networks[..] {
        match only.network.as_str() {
            "host" => return Ok(Mode::Host),
            "none" => return Ok(Mode::None),
            _ => {}
        }
        if let Some(other) = only.network.strip_prefix("container:") {
            name::check("container", other)?;
            if !request.ports.is_empty() {
                fault!(Usage, "conflicting options: port publishing and the container type network mode");
            }
            return Ok(Mode::Container(other.into()));
        }
    }
    for (at, attachment) in networks.iter_mut().enumerate() {
        if attachment.network == "default" {
            attachment.network = DEFAULT.into();
        }
        if special(&attachment.network) {
            fault!(Usage, "network {} cannot be combined with others", attachment.network);
        }
        check_attachment(attachment)?;
        if request.networks.iter().take(at).any(|other| other.network == attachment.network) {
            fault!(Usage, "network {} is named twice", attachment.network);
        }
    }
    Ok(Mode::Networks(networks))
}

/// Checks one network to join.
///
/// # Errors
/// `Usage`.
pub fn check_attachment(attachment: &Attachment) -> anyhow::Result<()> {
    if let Some(mac) = &attachment.mac {
        mac_address(mac)?;
    }
    if let Some(interface) = &attachment.interface {
        let plain = interface.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if interface.is_empty() || interface.len() > 15 || !plain || interface == "." || interface == ".." {
            fault!(Usage, "invalid interface name {interface:?}: 1 to 15 characters without / : or spaces");
        }
    }
    for alias in &attachment.aliases {
        check_host_name(alias)?;
    }
    Ok(())
}

/// A name may go into a hosts file and a DNS answer: no white space, no control character, at most 253 bytes.
fn check_host_name(text: &str) -> anyhow::Result<()> {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
    if !plain || text.len() > 253 {
        let shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
        fault!(Usage, "invalid host name \"{shown}\": letters, digits, - _ . and at most 253 of them");
    }
    Ok(())
}

/// `aa:bb:cc:dd:ee:ff`, a single station's.
///
/// # Errors
/// `Usage`.
pub fn mac_address(text: &str) -> anyhow::Result<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        match parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .map(|part| u8::from_str_radix(part, 16))
        {
            Some(Ok(value)) => *byte = value,
            _ => fault!(Usage, "invalid MAC address {text:?}"),
        }
    }
    if parts.next().is_some() || mac[0] & 1 == 1 || mac == [0; 6] {
        fault!(Usage, "invalid MAC address {text:?}");
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(networks: &[&str]) -> Request {
        let attachment = |name: &&str| Attachment { network: (*name).into(), ..Attachment::default() };
        Request { networks: networks.iter().map(attachment).collect(), ..Request::default() }
    }

    #[test]
    fn modes_stand_alone() {
        assert_eq!(mode(&with(&["host"])).unwrap(), Mode::Host);
        assert_eq!(mode(&with(&["container:a"])).unwrap(), Mode::Container("a".into()));
        for bad in [&["host", "a"][..], &["a", "none"], &["container:../x"], &["a", "a"]] {
            assert!(mode(&with(bad)).is_err(), "{bad:?}");
        }
        let Mode::Networks(networks) = mode(&with(&[])).unwrap() else { panic!("not a network") };
        assert_eq!(networks[0].network, DEFAULT);
    }

    #[test]
    fn hostile_names_and_addresses_are_refused() {
        for text in ["a b", "a\nnameserver 1.2.3.4", "x;rm", &"a".repeat(254)] {
            assert!(mode(&Request { name: text.into(), ..Request::default() }).is_err(), "{text:?}");
        }
        for text in [
            "",
            "01:00:00:00:00:00",
            "00:00:00:00:00:00",
            "02:00:00:00:00",
            "02:00:00:00:00:00:00",
            "+2:00:00:00:00:00",
        ] {
            assert!(mac_address(text).is_err(), "{text}");
        }
        assert_eq!(mac_address("02:42:0a:00:00:02").unwrap(), [2, 0x42, 10, 0, 0, 2]);
    }
}
