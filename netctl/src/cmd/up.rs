//! `netctl up`.

use std::io::Read as _;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use contracts::network::{Attachment, Dns, Port, Request, Status};

use super::print;
use crate::attach;
use crate::cli::Up;
use crate::network::DEFAULT;
use crate::state::State;

/// Attaches a container; prints its status.
///
/// # Errors
/// `Usage`, or as [`attach::up::up`].
pub fn run(args: Up) -> Result<Exit> {
    let (id, request) = request(args)?;
    let status = attach::up::up(&State::open()?, &id, request)?;
    print_status(&status)
}

/// The status as one line of JSON.
///
/// # Errors
/// stdout cannot be written to.
pub fn print_status(status: &Status) -> Result<Exit> {
    print(&format!("{}\n", serde_json::to_string(status).context("encode the status")?))?;
    Ok(Exit::Ok)
}

fn request(args: Up) -> Result<(String, Request)> {
    let mut networks: Vec<Attachment> =
        args.network.iter().map(|name| attachment(name, &args.alias)).collect();
    let on_first = args.ip.is_some() || args.ip6.is_some() || args.mac_address.is_some();
    if networks.is_empty() && (on_first || !args.alias.is_empty()) {
        networks.push(attachment(DEFAULT, &args.alias));
    }
    if let Some(first) = networks.first_mut() {
        (first.ip, first.ip6, first.mac) = (args.ip, args.ip6, args.mac_address);
    }
    let split = |text: &String| match text.split_once(':') {
        Some((name, address)) => Ok((name.to_owned(), address.to_owned())),
        None => fault!(Usage, "--add-host {text:?}: not NAME:ADDRESS"),
    };
    let flags = Request {
        version: 1,
        name: args.name.unwrap_or_default(),
        hostname: args.hostname.unwrap_or_default(),
        networks,
        ports: args.publish.iter().map(|text| port(text)).collect::<Result<_>>()?,
        dns: Dns { servers: args.dns, search: args.dns_search, options: args.dns_option },
        domainname: String::new(),
        extra_hosts: args.add_host.iter().map(split).collect::<Result<_>>()?,
        ..Request::default()
    };
    if flags != (Request { version: 1, ..Request::default() })
        || std::io::IsTerminal::is_terminal(&std::io::stdin())
    {
        return Ok((args.id, flags));
    }
    let mut text = String::new();
    std::io::stdin().take(1 << 20).read_to_string(&mut text).context("read the request from stdin")?;
    if text.trim().is_empty() {
        return Ok((args.id, flags));
    }
    // An object, first: serde would also take a list of the fields' values in order.
    let read = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text);
    match read.and_then(|object| serde_json::from_value(object.into())) {
        Ok(request) => Ok((args.id, request)),
        Err(err) => fault!(Usage, "request on stdin: {err}"),
    }
}

fn attachment(network: &str, aliases: &[String]) -> Attachment {
    Attachment { network: network.into(), aliases: aliases.to_vec(), ..Attachment::default() }
}

/// `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`, an IPv6 address in brackets.
fn port(text: &str) -> Result<Port> {
    let parsed = || -> Option<Port> {
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (before, container) =
            rest.rsplit_once(':').map_or((None, rest), |(before, port)| (Some(before), port));
        let (host_ip, host_port) = match before {
            None => (None, ""),
            Some(before) => match before.rsplit_once(':') {
                None => (None, before),
                Some((ip, port)) => {
                    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                    let ip = if bare.is_empty() { None } else { Some(bare.parse::<IpAddr>().ok()?) };
                    (ip, port)
                }
            },
        };
        let host_port = if host_port.is_empty() { 0 } else { host_port.parse().ok()? };
        let protocol = protocol.to_ascii_lowercase();
        Some(Port {
            host_ip,
            host_port,
            container_port: container.parse().ok()?,
            protocol,
            ..Port::default()
        })
    };
    match parsed() {
        Some(port) => Ok(port),
        None => fault!(Usage, "invalid port {text:?}: not [[IP:][HOST]:]CONTAINER[/PROTOCOL]"),
    }
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn forms_of_ports() {
        let shown = |text: &str| {
            port(text)
                .map(|port| {
                    format!("{:?} {} {} {}", port.host_ip, port.host_port, port.container_port, port.protocol)
                })
                .unwrap_or_default()
        };
        assert_eq!(shown("80"), "None 0 80 tcp");
        assert_eq!(shown("8080:80/udp"), "None 8080 80 udp");
        assert_eq!(shown("127.0.0.1:8080:80"), "Some(127.0.0.1) 8080 80 tcp");
        assert_eq!(shown("127.0.0.1::80"), "Some(127.0.0.1) 0 80 tcp");
        assert_eq!(shown("[::1]:8080:80"), "Some(::1) 8080 80 tcp");
        for bad in ["", "a", "1:b", "x:1:2", "70000", "1:2:3:4"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }
}
