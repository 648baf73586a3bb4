//! The hosts of an overlay network: a list (`--opt peers=A,B`), a file or a directory of such files that they share.
//!
//! A line of a file is `HOST-ADDRESS [RANGE…]`, the ranges of the subnets that this host leases from, or
//! `CONTAINER-ADDRESS NAME…`, as in hosts(5): whichever an address is follows from the network's subnets. `#` begins a
//! comment. In a shared directory each host writes a file of its own, named after its address.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::{atomic, fault, lock::Lock};

use super::{Network, Subnet};
use crate::cidr::{Cidr, bits};
use crate::netlink::{route, socket::Socket};

/// What carries packets between the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Frames in UDP.
    Vxlan,
    /// Frames in GRE.
    Gre,
    /// Nothing: the hosts are neighbours, and each routes to the others' ranges.
    Routes,
}

/// How many ranges a subnet is cut into where nobody says.
const HOSTS: u32 = 16;

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its address on the network that carries the packets.
    pub address: IpAddr,
    /// The parts of the subnets that it leases from.
    pub ranges: Vec<Cidr>,
}

/// All hosts in order, and the names that they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// The hosts.
    pub hosts: Vec<Peer>,
    /// Containers' addresses with their names, and the file they are from.
    pub names: Vec<(PathBuf, IpAddr, Vec<String>)>,
}

/// Where the shared list is, if it is one.
pub fn shared(network: &Network) -> Option<&Path> {
    network.option("peers").filter(|text| text.starts_with('/')).map(Path::new)
}

/// Reads the list, the file or the directory.
///
/// # Errors
/// `Usage` for a malformed one, naming the place; the file system's.
pub fn read(network: &Network) -> Result<Peers> {
    let subnets: Vec<Cidr> = network.subnets.iter().map(|subnet| subnet.subnet).collect();
    match (shared(network), network.option("peers")) {
        (Some(path), _) => read_path(path, &subnets),
        (None, Some(text)) => {
            let mut peers = Peers::default();
            for part in text.split(',').filter(|part| !part.trim().is_empty()) {
                let words = part.replace('=', " ");
                read_line("network option peers", Path::new(""), &words, &subnets, &mut peers)?;
            }
            Ok(peers)
        }
        (None, None) => Ok(Peers::default()),
    }
}

/// Reads a shared file or directory.
///
/// # Errors
/// As [`read`].
pub fn read_path(path: &Path, subnets: &[Cidr]) -> Result<Peers> {
    let mut peers = Peers::default();
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()
        });
        files = entries.with_context(|| format!("read directory {}", path.display()))?;
        // What begins with a dot is a lock, what ends so a file that is being written.
        files.retain(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.') && !name.ends_with(".tmp")
        });
        files.sort();
    }
    for file in files {
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            // Taken away meanwhile by its host.
            Err(err) if err.kind() == std::io::ErrorKind::NotFound && file != path => continue,
            Err(err) => return Err(err).with_context(|| format!("read peers {}", file.display())),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let place = format!("{} line {}", file.display(), number + 1);
            read_line(&place, &file, line, subnets, &mut peers)?;
        }
    }
    Ok(peers)
}

fn read_line(place: &str, file: &Path, line: &str, subnets: &[Cidr], peers: &mut Peers) -> Result<()> {
    let mut words = line.split_ascii_whitespace();
    let Some(first) = words.next() else { return Ok(()) };
    let Ok(address) = first.parse::<IpAddr>() else {
        fault!(Usage, "{place}: {:?} is not an address", first.escape_default().to_string())
    };
    if subnets.iter().any(|subnet| subnet.contains(address)) {
        let names = words.map(str::to_ascii_lowercase).collect();
        peers.names.push((file.to_owned(), address, names));
        return Ok(());
    }
    let ranges = words
        .map(|word| word.parse::<Cidr>().map(Cidr::subnet))
        .collect::<Result<Vec<Cidr>, _>>()
        .with_context(|| place.to_owned())?;
    for range in &ranges {
        let inside = |subnet: &Cidr| subnet.contains(range.first()) && range.prefix >= subnet.prefix;
        if !subnets.iter().any(inside) {
            fault!(Usage, "{place}: range {range} is in no subnet of the network");
        }
    }
    if peers.hosts.iter().any(|other| other.address == address) {
        fault!(Usage, "{place}: host {address} is named twice");
    }
    peers.hosts.push(Peer { address, ranges });
    Ok(())
}

/// This host's address among the peers: the option's, or the one that is an address of this namespace.
///
/// # Errors
/// `NotFound` where no peer is this host, `Usage` for an address that is not this host's.
pub fn local(network: &Network, peers: &Peers, host: &Socket) -> Result<IpAddr> {
    let own: Vec<IpAddr> = route::own(host)?.into_iter().map(|(_, cidr)| cidr.address).collect();
    if let Some(text) = network.option("local") {
        return match text.parse::<IpAddr>() {
            Ok(address) if own.contains(&address) => Ok(address),
            Ok(address) => fault!(NotFound, "network option local={address}: this host has no such address"),
            Err(_) => fault!(Usage, "network option local={text}: not an address"),
        };
    }
    match peers.hosts.iter().find(|peer| own.contains(&peer.address)) {
        Some(peer) => Ok(peer.address),
        None => fault!(
            NotFound,
            "network {}: none of its peers is an address of this host: name it with --opt local=ADDRESS",
            network.name
        ),
    }
}

/// The part number `position` of a subnet that `hosts` hosts share.
fn part(network: &Network, subnet: Cidr, position: usize) -> Result<Cidr> {
    let hosts = network.number("hosts", 1, 4096)?.unwrap_or(HOSTS);
    let cut = u8::try_from(hosts.next_power_of_two().trailing_zeros()).unwrap_or(12);
    let prefix = subnet.prefix.saturating_add(cut);
    if prefix + 2 > bits(subnet.address) {
        fault!(Usage, "subnet {subnet} is too small for {hosts} hosts: fewer with --opt hosts=N");
    }
    if position >= hosts as usize {
        fault!(Busy, "network {}: more than {hosts} hosts: more with --opt hosts=N", network.name);
    }
    let size = 1u128 << (bits(subnet.address) - prefix);
    Ok(Cidr { address: subnet.nth(size * position as u128), prefix })
}

/// What `peer` leases from of `subnet`: its own range, or the part that its place in the list gives it.
fn range_of(network: &Network, peers: &Peers, position: usize, subnet: &Subnet) -> Result<Cidr> {
    let peer = &peers.hosts[position];
    let own = peer.ranges.iter().find(|range| subnet.subnet.contains(range.first()));
    own.map_or_else(|| part(network, subnet.subnet, position), |range| Ok(*range))
}

/// Chooses this host's ranges, once, when the network is made, and enters this host in a shared directory.
///
/// # Errors
/// `Usage` where ranges overlap or cannot be derived, `Busy` where the subnet has no part left.
pub fn settle(network: &mut Network, host: &Socket) -> Result<()> {
    let directory = shared(network).filter(|path| path.is_dir()).map(Path::to_owned);
    let _lock = match &directory {
        Some(directory) => Some(Lock::exclusive(&directory.join(".lock"))?),
        None => None,
    };
    let mut peers = read(network)?;
    let local = local(network, &peers, host)?;
    let mut position = peers.hosts.iter().position(|peer| peer.address == local);
    if position.is_none() && directory.is_some() {
        // The order in a directory is that of arrival: what is taken is written in the files.
        peers.hosts.push(Peer { address: local, ranges: Vec::new() });
        position = Some(peers.hosts.len() - 1);
    }
    let mut subnets = network.subnets.clone();
    for subnet in &mut subnets {
        if subnet.range.is_none() {
            subnet.range = Some(match (position, &directory) {
                (Some(position), Some(_)) => free_part(network, &peers, position, subnet)?,
                (Some(position), None) => range_of(network, &peers, position, subnet)?,
                (None, _) => fault!(
                    Usage,
                    "network {}: {local} is none of its peers: say what it leases from with --ip-range",
                    network.name
                ),
            });
        }
        let range = subnet.range.unwrap_or(subnet.subnet);
        for (other, peer) in peers.hosts.iter().enumerate().filter(|(other, _)| Some(*other) != position) {
            let theirs = match (&directory, peer.ranges.is_empty()) {
                (Some(_), true) => continue,
                _ => range_of(network, &peers, other, subnet)?,
            };
            if theirs.overlaps(range) {
                fault!(
                    Busy,
                    "network {}: range {range} overlaps with {theirs} of host {}",
                    network.name,
                    peer.address
                );
            }
        }
        // The gateway is this host, so every host has one of its own.
        if subnet.gateway.is_none_or(|gateway| gateway == subnet.subnet.nth(1)) {
            subnet.gateway = Some(range.nth(1));
        }
    }
    network.subnets = subnets;
    tell(network, local, &[])
}

fn free_part(network: &Network, peers: &Peers, position: usize, subnet: &Subnet) -> Result<Cidr> {
    // Made before on this host, and removed: it may have its range again.
    if let Some(own) = peers.hosts[position].ranges.iter().find(|own| subnet.subnet.contains(own.first())) {
        return Ok(*own);
    }
    let mut number = 0;
    loop {
        let candidate = part(network, subnet.subnet, number)?;
        if !peers.hosts.iter().flat_map(|peer| &peer.ranges).any(|taken| taken.overlaps(candidate)) {
            return Ok(candidate);
        }
        number += 1;
    }
}

/// Writes this host's file in a shared directory: its ranges and its containers' names.
///
/// # Errors
/// The file system's.
pub fn tell(network: &Network, local: IpAddr, names: &[(IpAddr, Vec<String>)]) -> Result<()> {
    use std::fmt::Write as _;
    let Some(directory) = shared(network).filter(|path| path.is_dir()) else { return Ok(()) };
    let mut text = format!("{local}");
    for range in network.subnets.iter().filter_map(|subnet| subnet.range) {
        let _ = write!(text, " {range}");
    }
    text.push('\n');
    for (address, names) in names {
        let _ = writeln!(text, "{address} {}", names.join(" "));
    }
    atomic::write(&directory.join(local.to_string()), text.as_bytes(), 0o644)
}

/// Takes this host out of a shared directory: its ranges are free for others.
///
/// # Errors
/// The file system's.
pub fn forget(network: &Network, host: &Socket) -> Result<()> {
    let Some(directory) = shared(network).filter(|path| path.is_dir()) else { return Ok(()) };
    let Ok(local) = local(network, &read(network)?, host) else { return Ok(()) };
    crate::state::remove(&directory.join(local.to_string()))
}

/// The other hosts, each with what it leases from.
///
/// # Errors
/// As [`read`]; `Busy` where a host's range overlaps with ours.
pub fn others(network: &Network, host: &Socket) -> Result<(IpAddr, Vec<Peer>)> {
    let peers = read(network)?;
    let local = local(network, &peers, host)?;
    let mut found = Vec::new();
    for (position, peer) in peers.hosts.iter().enumerate().filter(|(_, peer)| peer.address != local) {
        if peer.address.is_ipv4() != local.is_ipv4() {
            fault!(Usage, "network {}: host {} is not of the family of {local}", network.name, peer.address);
        }
        let mut ranges = Vec::new();
        for subnet in &network.subnets {
            let theirs = range_of(network, &peers, position, subnet)?;
            if subnet.range.is_some_and(|own| own.overlaps(theirs)) {
                fault!(
                    Busy,
                    "network {}: host {} leases from {theirs}, as we do",
                    network.name,
                    peer.address
                );
            }
            ranges.push(theirs);
        }
        found.push(Peer { address: peer.address, ranges });
    }
    Ok((local, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(peers: &str) -> Network {
        let mut network = Network::new("n").unwrap();
        network.driver = "overlay".into();
        network.options.insert("peers".into(), peers.into());
        network.subnets = vec![Subnet::plain("10.50.0.0/16".parse().unwrap())];
        network
    }

    #[test]
    fn a_list_gives_each_host_its_part() {
        let network = network("192.168.7.1,192.168.7.2=10.50.128.0/20, 192.168.7.3");
        let peers = read(&network).unwrap();
        let ranges: Vec<String> = (0..3)
            .map(|position| range_of(&network, &peers, position, &network.subnets[0]).unwrap().to_string())
            .collect();
        assert_eq!(ranges, ["10.50.0.0/20", "10.50.128.0/20", "10.50.32.0/20"]);
        assert!(part(&network, network.subnets[0].subnet, 16).is_err());
        assert!(part(&network, "10.0.0.0/28".parse().unwrap(), 0).is_err());
    }

    #[test]
    fn malformed_lists_are_refused() {
        for text in
            ["x", "10.0.0.1,10.0.0.1", "192.168.7.1=10.51.0.0/24", "192.168.7.1=x", "192.168.7.1=10.0.0.0/8"]
        {
            assert!(read(&network(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_holds_hosts_and_names() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "# ours\n192.168.7.1 10.50.1.0/24\n\n10.50.1.2 Web www # x\n").unwrap();
        let peers = read(&network(file.path().to_str().unwrap())).unwrap();
        assert_eq!(peers.hosts[0].ranges[0].to_string(), "10.50.1.0/24");
        assert_eq!(peers.names[0].2, ["web", "www"]);
    }
}
