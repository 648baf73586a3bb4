//! `STATE/net/files/<id>/`: what a container sees as `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`.
//!
//! They are bind-mounted as files, so a change writes into them and never replaces them.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::record::Record;
use crate::cidr::Cidr;
use crate::dhcp::{self, lease::Lease};
use crate::network::Network;
use crate::state::{self, State};

/// The directory of one attachment's files.
pub fn directory(state: &State, id: &str) -> PathBuf {
    state.path(&["files", id])
}

/// Where the host's resolver settings are. The second is systemd-resolved's: its stub listens on loopback only,
/// which a container cannot reach.
const RESOLV: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// The host's resolver settings that a container can use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Servers that are reachable from elsewhere than the host's loopback.
    pub servers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// Reads the host's resolver settings.
pub fn host_resolver() -> Resolver {
    let mut found = Resolver::default();
    for path in RESOLV {
        found = parse(&fs::read_to_string(path).unwrap_or_default());
        if !found.servers.is_empty() {
            break;
        }
    }
    found
}

/// Reads resolv.conf(5), leaving out servers on loopback.
fn parse(text: &str) -> Resolver {
    let mut found = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let key = words.next();
        let words: Vec<String> =
            words.take_while(|word| !word.starts_with(['#', ';'])).map(String::from).collect();
        match key {
            Some("nameserver") => {
                let servers = words.iter().take(1).filter_map(|word| word.parse::<IpAddr>().ok());
                found.servers.extend(servers.filter(|server| !server.is_loopback()));
            }
            // The last one wins (resolv.conf(5)).
            Some("search" | "domain") => found.search = words,
            Some("options") => found.options.extend(words),
            _ => {}
        }
    }
    found
}

/// Writes the three files; `networks` are those the record names, in order; `own` is false in the host's namespace.
///
/// # Errors
/// The file system's.
pub fn write(state: &State, record: &mut Record, networks: &[Network], own: bool) -> Result<()> {
    let dir = directory(state, &record.id);
    state::make_dir(&dir)?;
    let hosts = hosts(record, networks, own)?;
    let leases = dhcp::of(&state.path(&["dhcp"]), &record.id)?;
    let resolv_conf = resolv_conf(record, networks, &leases);
    let hostname = format!("{}\n", record.status.hostname);
    for (name, text) in [("hosts", &hosts), ("resolv.conf", &resolv_conf), ("hostname", &hostname)] {
        let path = dir.join(name);
        write_in_place(&path, text)?;
        if let Some((uid, gid)) = record.request.id_maps.as_ref().map(|maps| maps.outside(0, 0)) {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))
                .with_context(|| format!("chown {}", path.display()))?;
        }
    }
    record.status.hosts = Some(dir.join("hosts"));
    record.status.resolv_conf = Some(dir.join("resolv.conf"));
    record.status.hostname_file = Some(dir.join("hostname"));
    Ok(())
}

fn write_in_place(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o644)))
        .with_context(|| format!("write {}", path.display()))
}

fn hosts(record: &Record, networks: &[Network], own: bool) -> Result<String> {
    let mut text = if own {
        LOCALHOST.to_owned()
    } else {
        fs::read_to_string("/etc/hosts").unwrap_or_else(|_| LOCALHOST.into())
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (host, address) in &record.request.extra_hosts {
        let gateway = networks.iter().find_map(|network| network.gateways().first().copied());
        let address = match (address.as_str(), gateway) {
            ("host-gateway", Some(gateway)) => gateway.to_string(),
            ("host-gateway", None) => "127.0.0.1".into(),
            (address, _) => address.into(),
        };
        writeln!(text, "{address}\t{host}")?;
    }
    for (_, endpoint) in record.endpoints() {
        for address in [Some(&endpoint.address), endpoint.address6.as_ref()].into_iter().flatten() {
            if let Ok(cidr) = address.parse::<Cidr>() {
                let (host, domain) = (&record.status.hostname, &record.request.domainname);
                let hostname = if domain.is_empty() { host.clone() } else { format!("{host}.{domain}") };
                let short = host.split('.').next().unwrap_or_default();
                let short = if short == hostname { "" } else { short };
                writeln!(text, "{}", format!("{}\t{hostname} {short}", cidr.address).trim_end())?;
            }
        }
    }
    Ok(text)
}

/// What is asked for goes before what DHCP servers said, and that before the host's own.
fn resolv_conf(record: &Record, networks: &[Network], leases: &[Lease]) -> String {
    let mut host = host_resolver();
    let named: Vec<IpAddr> = leases.iter().flat_map(|lease| lease.names.iter().copied()).collect();
    if !named.is_empty() {
        host.servers = named;
        let domains = leases.iter().map(|lease| lease.domain.clone());
        host.search = domains.filter(|domain| !domain.is_empty()).collect();
    }
    let asked = &record.request.dns;
    let own: Vec<IpAddr> =
        networks.iter().filter(|network| network.dns).flat_map(Network::gateways).collect();
    let servers = match (own.is_empty(), asked.servers.is_empty()) {
        // Our server knows the containers' names and asks the given or the host's servers for the rest.
        (false, _) => own,
        (true, false) => asked.servers.clone(),
        (true, true) => host.servers,
    };
    let or = |asked: &[String], host: Vec<String>| if asked.is_empty() { host } else { asked.to_vec() };
    let mut text = String::new();
    // The resolver reads three servers at most.
    for server in servers.iter().take(3) {
        let _ = writeln!(text, "nameserver {server}");
    }
    let search = or(&asked.search, host.search);
    // A single dot means: no search domain at all.
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    let options = or(&asked.options, host.options);
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn loopback_servers_are_of_no_use_inside() {
        let found = parse(
            "nameserver 127.0.0.53\nnameserver 10.0.0.1 # x\nsearch a b\ndomain c\noptions ndots:2 # y\n",
        );
        assert_eq!(found.servers, ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!((found.search, found.options), (vec!["c".into()], vec!["ndots:2".into()]));
    }
}
