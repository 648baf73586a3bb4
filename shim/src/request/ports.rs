//! `-p [[IP:]HOST[-RANGE]:]CONTAINER[-RANGE][/PROTOCOL]`.

use std::net::IpAddr;

use anyhow::Result;
use contracts::fault;
use contracts::network::Port;

/// One `-p` value as single ports.
pub fn parse(text: &str) -> Result<Vec<Port>> {
    if text.contains("target=") || text.contains("published=") {
        return long(text);
    }
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        fault!(Usage, "invalid publish \"{text}\": invalid proto: {protocol}");
    }
    let (address, host, container) = split(text, rest)?;
    let Some(inside) = range(container) else {
        fault!(Usage, "invalid publish \"{text}\": invalid containerPort: {container}")
    };
    let Some(outside) = (if host.is_empty() { Some((0, 0)) } else { range(host) }) else {
        fault!(Usage, "invalid publish \"{text}\": invalid hostPort: {host}")
    };
    let (inside_count, outside_count) = (inside.1 - inside.0, outside.1 - outside.0);
    // One container port with a range outside: the first free port of the range.
    if !host.is_empty() && inside_count != outside_count && inside_count != 0 {
        fault!(
            Usage,
            "invalid publish \"{text}\": invalid ranges specified for container and host Ports: {container} and {host}"
        );
    }
    let port = |at: u16| Port {
        host_ip: address,
        host_port: if host.is_empty() { 0 } else { outside.0 + at },
        host_port_last: if outside_count > inside_count { outside.1 } else { 0 },
        container_port: inside.0 + at,
        protocol: protocol.clone(),
    };
    Ok((0..=inside_count).map(port).collect())
}

fn split<'a>(text: &str, rest: &'a str) -> Result<(Option<IpAddr>, &'a str, &'a str)> {
    let (address, ports) = match rest.strip_prefix('[') {
        Some(tail) => match tail.split_once("]:") {
            Some((address, ports)) => (address, ports),
            None => fault!(Usage, "invalid publish \"{text}\": address without ports"),
        },
        None => match rest.rsplitn(3, ':').collect::<Vec<_>>()[..] {
            [container, host, address] => (address, &rest[rest.len() - container.len() - host.len() - 1..]),
            _ => ("", rest),
        },
    };
    let (host, container) = ports.split_once(':').unwrap_or(("", ports));
    if container.is_empty() {
        fault!(Usage, "invalid publish \"{text}\": no port specified");
    }
    if address.is_empty() {
        return Ok((None, host, container));
    }
    match address.parse() {
        Ok(address) => Ok((Some(address), host, container)),
        Err(_) => fault!(Usage, "invalid publish \"{text}\": invalid IP address: {address}"),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
    (first <= last && first > 0).then_some((first, last))
}

fn long(text: &str) -> Result<Vec<Port>> {
    let mut short = (String::new(), String::new(), "tcp".to_owned());
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("target", value)) => short.1 = value.into(),
            Some(("published", value)) => short.0 = value.into(),
            Some(("protocol", value)) => short.2 = value.into(),
            Some(("mode", "host" | "ingress")) => {}
            _ => fault!(Usage, "invalid publish \"{text}\": unexpected field '{part}'"),
        }
    }
    let separator = if short.0.is_empty() { "" } else { ":" };
    parse(&format!("{}{separator}{}/{}", short.0, short.1, short.2))
}

/// `--expose PORT[-RANGE][/PROTOCOL]` as docker's keys, `80/tcp`.
pub fn exposed(text: &str) -> Result<Vec<String>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match range(ports) {
        Some((first, last)) if ["tcp", "udp", "sctp"].contains(&protocol) => {
            Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
        }
        _ => fault!(Usage, "invalid range format for --expose: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        let one = |p: &Port| {
            let ip = p.host_ip.map(|ip| format!("{ip} ")).unwrap_or_default();
            format!("{ip}{}>{}/{}", p.host_port, p.container_port, p.protocol)
        };
        parse(text).unwrap().iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn all_forms() {
        assert_eq!(show("80"), "0>80/tcp");
        assert_eq!(show("8080:80"), "8080>80/tcp");
        assert_eq!(show("127.0.0.1::80/udp"), "127.0.0.1 0>80/udp");
        assert_eq!(show("127.0.0.1:1:2"), "127.0.0.1 1>2/tcp");
        assert_eq!(show("[::1]:1:2"), "::1 1>2/tcp");
        assert_eq!(show("7000-7001:80-81"), "7000>80/tcp 7001>81/tcp");
        assert_eq!(show("target=80,published=8080"), "8080>80/tcp");
        let any = &parse("7000-7003:80").unwrap()[0];
        assert_eq!((any.host_port, any.host_port_last), (7000, 7003));
    }

    #[test]
    fn refused() {
        for wrong in
            ["", "x", "1-3:4-5", "0:80", "70000:1", "1.2.3:1:2", "80/icmp", "a:b:c:d", "5-3", "[::1]80"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
