//! The same rules as [`super::table`] as `iptables-restore` reads them: chains of our own, and one jump to each from a
//! chain of the host's. Pure text; [`super::programs`] runs it.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::batch::Family;
use super::table::are_apart;
use super::{Publish, Zone};

/// From which chain of the host to which of ours, with a condition.
struct Jump {
    table: &'static str,
    from: &'static str,
    condition: &'static str,
    to: &'static str,
}

const LOCAL: &str = " -m addrtype --dst-type LOCAL";
const JUMPS: [Jump; 5] = [
    Jump { table: "raw", from: "PREROUTING", condition: "", to: "GUARD" },
    Jump { table: "nat", from: "PREROUTING", condition: LOCAL, to: "ARRIVING" },
    Jump { table: "nat", from: "OUTPUT", condition: LOCAL, to: "PUBLISH" },
    Jump { table: "nat", from: "POSTROUTING", condition: "", to: "LEAVING" },
    Jump { table: "filter", from: "FORWARD", condition: "", to: "FORWARD" },
];
const TABLES: [&str; 3] = ["raw", "nat", "filter"];

fn chains(table: &str) -> impl Iterator<Item = &'static str> {
    let publish = Some("PUBLISH").filter(|_| table == "nat");
    let jumps = JUMPS.iter().filter(move |jump| jump.table == table && jump.to != "PUBLISH");
    jumps.map(|jump| jump.to).chain(publish)
}

/// The prefix of our chains for tables of that name.
pub fn prefix(table: &str) -> String {
    table.to_ascii_uppercase()
}

/// Everything that depends on the networks; with `ports`, those too, else published ports stay as they are. `saved` is
/// what `iptables-save` says: a jump that stands is not made again.
pub fn zones(name: &str, family: Family, zones: &[Zone], ports: Option<&[Publish]>, saved: &str) -> String {
    let prefix = prefix(name);
    let mut text = String::new();
    for table in TABLES {
        let _ = writeln!(text, "*{table}");
        for chain in chains(table).filter(|chain| *chain != "PUBLISH" || ports.is_some()) {
            let _ = writeln!(text, ":{prefix}-{chain} - [0:0]");
        }
        if ports.is_none() && table == "nat" && !has_chain(saved, &format!("{prefix}-PUBLISH")) {
            let _ = writeln!(text, ":{prefix}-PUBLISH - [0:0]");
        }
        for jump in JUMPS.iter().filter(|jump| jump.table == table) {
            let rule = format!("{}{} -j {prefix}-{}", jump.from, jump.condition, jump.to);
            if !in_table(saved, table).any(|line| line == format!("-A {rule}")) {
                // First, because what the host drops by default it drops last.
                let (from, rest) = rule.split_once(' ').unwrap_or((&rule, ""));
                let _ = writeln!(text, "-I {from} 1 {rest}");
            }
        }
        match table {
            "raw" => guard(&mut text, &prefix, family, zones),
            "nat" => nat(&mut text, &prefix, family, zones, ports.unwrap_or_default()),
            _ => forward(&mut text, &prefix, family, zones),
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Removes our jumps and chains, as far as they are in `saved`; empty where none are.
pub fn removal(name: &str, saved: &str) -> String {
    let prefix = prefix(name);
    let mut text = String::new();
    for table in TABLES {
        let mut lines = String::new();
        for line in in_table(saved, table) {
            let ours = line.rsplit_once(" -j ").is_some_and(|(_, to)| is_ours(&prefix, to));
            let inside = line.strip_prefix("-A ").is_some_and(|rest| is_ours(&prefix, rest));
            if ours && !inside {
                let _ = writeln!(lines, "-D{}", line.trim_start_matches("-A"));
            }
        }
        let own: Vec<&str> = in_table(saved, table)
            .filter_map(|line| line.strip_prefix(':')?.split(' ').next())
            .filter(|chain| is_ours(&prefix, chain))
            .collect();
        for command in ["-F", "-X"] {
            for chain in &own {
                let _ = writeln!(lines, "{command} {chain}");
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "*{table}\n{lines}COMMIT\n");
        }
    }
    text
}

fn is_ours(prefix: &str, text: &str) -> bool {
    let chain = text.split(' ').next().unwrap_or_default();
    let known = ["GUARD", "ARRIVING", "PUBLISH", "LEAVING", "FORWARD"];
    chain
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|rest| known.contains(&rest))
}

fn has_chain(saved: &str, chain: &str) -> bool {
    saved.lines().any(|line| line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) == Some(chain))
}

/// The lines of one table of an `iptables-save`.
fn in_table<'a>(saved: &'a str, table: &'a str) -> impl Iterator<Item = &'a str> {
    saved
        .lines()
        .skip_while(move |line| line.strip_prefix('*') != Some(table))
        .skip(1)
        .take_while(|line| *line != "COMMIT")
}

fn guard(text: &mut String, prefix: &str, family: Family, zones: &[Zone]) {
    if family == Family::V4 {
        for zone in zones {
            // See `table::zones`.
            let _ = writeln!(text, "-A {prefix}-GUARD -i {} -d 127.0.0.0/8 -j DROP", zone.bridge);
        }
    }
}

fn nat(text: &mut String, prefix: &str, family: Family, zones: &[Zone], ports: &[Publish]) {
    let published = "-m conntrack --ctstate DNAT";
    for zone in zones {
        for name_server in zone.names.iter().filter(|address| family.has(**address)) {
            for protocol in ["udp", "tcp"] {
                let answer = match zone.names_port {
                    0 | 53 => "ACCEPT".to_owned(),
                    port => format!("DNAT --to-destination :{port}"),
                };
                let _ = writeln!(
                    text,
                    "-A {prefix}-ARRIVING -i {} -d {name_server} -p {protocol} --dport 53 -j {answer}",
                    zone.bridge
                );
            }
        }
    }
    let _ = writeln!(text, "-A {prefix}-ARRIVING -j {prefix}-PUBLISH");
    let loopback = if family == Family::V4 { "127.0.0.0/8" } else { "::1/128" };
    let _ = writeln!(text, "-A {prefix}-LEAVING -s {loopback} {published} -j MASQUERADE");
    for zone in zones {
        for subnet in zone.subnets.iter().filter(|subnet| family.has(subnet.address)) {
            let _ = writeln!(text, "-A {prefix}-LEAVING -s {subnet} -d {subnet} {published} -j MASQUERADE");
            if zone.nat(family).masquerade && !zone.internal {
                if family == Family::V4 {
                    let _ = writeln!(text, "-A {prefix}-LEAVING -s {subnet} -d 224.0.0.0/4 -j RETURN");
                }
                let hide = match zone.hides_behind(family) {
                    Some(address) => format!("SNAT --to-source {address}"),
                    None => "MASQUERADE".into(),
                };
                let _ = writeln!(
                    text,
                    "-A {prefix}-LEAVING -s {subnet} ! -d {subnet} ! -o {} -j {hide}",
                    zone.bridge
                );
            }
        }
    }
    text.push_str(&publish(prefix, family, ports, true));
}

fn forward(text: &mut String, prefix: &str, family: Family, zones: &[Zone]) {
    let mut add = |rule: String| {
        let _ = writeln!(text, "-A {prefix}-FORWARD {rule}");
    };
    for bridge in zones.iter().filter(|zone| zone.internal).map(|zone| &zone.bridge) {
        add(format!("-i {bridge} ! -o {bridge} -j DROP"));
        add(format!("-o {bridge} ! -i {bridge} -j DROP"));
    }
    for bridge in zones.iter().map(|zone| &zone.bridge) {
        // Only what goes to a container: the rest is the host's business.
        add(format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
        add(format!("-o {bridge} -m conntrack --ctstate DNAT -j ACCEPT"));
    }
    for zone in zones {
        let bridge = &zone.bridge;
        let among = if zone.closed { "DROP" } else { "ACCEPT" };
        add(format!("-i {bridge} -o {bridge} -j {among}"));
        for other in zones.iter().filter(|other| other.bridge != *bridge && are_apart(zone, other)) {
            add(format!("-i {} -o {bridge} -j DROP", other.bridge));
        }
        for interface in &zone.trusted {
            add(format!("-i {interface} -o {bridge} -j ACCEPT"));
        }
        for partner in zone.partners.iter().filter(|partner| family.has(partner.address)) {
            add(format!("-s {partner} -o {bridge} -j ACCEPT"));
        }
        let verdict = if zone.nat(family).routed { "ACCEPT" } else { "DROP" };
        add(format!("-o {bridge} -j {verdict}"));
    }
    for zone in zones {
        // Last: the way out, for hosts that forward nothing by default.
        add(format!("-i {} -j ACCEPT", zone.bridge));
    }
}

/// The rules of published ports; those to one address of the host stand before those to all.
fn publish(prefix: &str, family: Family, ports: &[Publish], whole: bool) -> String {
    let mut text = String::new();
    for any in [false, true] {
        for port in ports.iter().filter(|port| family.has(port.to) && port.host.is_none() == any) {
            let how = if whole || any { "-A" } else { "-I" };
            let _ = writeln!(text, "{how} {prefix}-PUBLISH {}", rule(port));
        }
    }
    text
}

fn rule(port: &Publish) -> String {
    let protocol = match port.protocol {
        6 => "tcp",
        17 => "udp",
        _ => "sctp",
    };
    let host = port.host.map(|host| format!("-d {host} ")).unwrap_or_default();
    let to = match port.to {
        IpAddr::V4(to) => to.to_string(),
        IpAddr::V6(to) => format!("[{to}]"),
    };
    let (from, to_port) = (port.host_port, port.to_port);
    format!("{host}-p {protocol} -m {protocol} --dport {from} -j DNAT --to-destination {to}:{to_port}")
}

/// Adds ports to rules that stand.
pub fn add(name: &str, family: Family, ports: &[Publish]) -> String {
    wrapped(publish(&prefix(name), family, ports, false))
}

/// Removes them.
pub fn remove(name: &str, family: Family, ports: &[Publish]) -> String {
    let prefix = prefix(name);
    let mut text = String::new();
    for port in ports.iter().filter(|port| family.has(port.to)) {
        let _ = writeln!(text, "-D {prefix}-PUBLISH {}", rule(port));
    }
    wrapped(text)
}

fn wrapped(rules: String) -> String {
    if rules.is_empty() { rules } else { format!("*nat\n{rules}COMMIT\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:BULKHEAD-PUBLISH - [0:0]\n\
        -A PREROUTING -m addrtype --dst-type LOCAL -j BULKHEAD-ARRIVING\n-A PREROUTING -j DOCKER\n\
        -A BULKHEAD-ARRIVING -j BULKHEAD-PUBLISH\nCOMMIT\n";

    #[test]
    fn only_our_own_goes() {
        let text = removal("bulkhead", SAVED);
        assert_eq!(
            text,
            "*nat\n-D PREROUTING -m addrtype --dst-type LOCAL -j BULKHEAD-ARRIVING\n-F BULKHEAD-PUBLISH\n\
             -X BULKHEAD-PUBLISH\nCOMMIT\n"
        );
        assert_eq!(removal("bulkhead", "*nat\n:DOCKER - [0:0]\n-A OUTPUT -j DOCKER\nCOMMIT\n"), "");
    }

    #[test]
    fn jumps_are_made_once_and_published_ports_stay() {
        let zone =
            Zone { bridge: "b0".into(), subnets: vec!["10.1.0.0/16".parse().unwrap()], ..Zone::default() };
        let text = zones("bulkhead", Family::V4, &[zone], None, SAVED);
        assert!(
            !text.contains("BULKHEAD-PUBLISH - ") && !text.contains("--dst-type LOCAL -j BULKHEAD-ARRIVING")
        );
        assert!(text.contains("-I OUTPUT 1 -m addrtype --dst-type LOCAL -j BULKHEAD-PUBLISH"), "{text}");
        assert!(text.contains("-A BULKHEAD-FORWARD -o b0 -j DROP"));
    }

    #[test]
    fn one_address_before_all_of_them() {
        let port = |host: Option<&str>| Publish {
            host: host.map(|host| host.parse().unwrap()),
            protocol: 6,
            host_port: 8080,
            to: "fd00::2".parse().unwrap(),
            to_port: 80,
        };
        let text = add("bulkhead", Family::V6, &[port(None), port(Some("::1"))]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("-I BULKHEAD-PUBLISH -d ::1 -p tcp"), "{text}");
        assert!(lines[2].ends_with("--dport 8080 -j DNAT --to-destination [fd00::2]:80"), "{text}");
        assert_eq!(add("bulkhead", Family::V4, &[port(None)]), "");
    }
}
