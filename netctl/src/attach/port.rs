//! Published ports: free or not, picked, claimed. A claim is a file, so that the check costs the same with
//! thousands of them.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::fault::Kind;
use contracts::network::Port;

use super::claim::is_alive;
use crate::rootless;
use crate::state::{self, State};

/// The port that our own DNS server has on every gateway.
const DNS: u16 = 53;

/// The same ports with every 0 replaced by a free one; nothing is claimed yet.
///
/// # Errors
/// `Busy` where another container or a process of the host has one of them; nothing has changed then.
pub fn choose(state: &State, wanted: &[Port]) -> Result<Vec<Port>> {
    let mut chosen: Vec<Port> = Vec::with_capacity(wanted.len());
    for port in wanted {
        let port = first_free(state, port, &chosen)?;
        chosen.push(port);
    }
    Ok(chosen)
}

/// The port, or the first free one of its range.
fn first_free(state: &State, wanted: &Port, chosen: &[Port]) -> Result<Port> {
    let mut port = Port { host_port_last: 0, ..wanted.clone() };
    if port.host_port == 0 {
        port.host_port = pick(state, &port, chosen)?;
    }
    loop {
        match check(state, &port, chosen) {
            Err(err) if port.host_port < wanted.host_port_last && Kind::of(&err) == Some(Kind::Busy) => {
                port.host_port += 1;
            }
            other => return other.map(|()| port),
        }
    }
}

fn check(state: &State, port: &Port, chosen: &[Port]) -> Result<()> {
    if chosen.iter().any(|other| collide(other, port)) {
        fault!(Busy, "cannot publish {}: named twice", shown(port));
    }
    if let Some(owner) = owner(state, port)? {
        fault!(Busy, "cannot publish {}: port is already allocated to {owner}", shown(port));
    }
    if rootless::is_used() {
        // The host's ports are out of our sight: whoever opens this one there will say.
        return Ok(());
    }
    match bind(port) {
        Err(err) if err.kind() == ErrorKind::AddrInUse => {
            fault!(Busy, "cannot publish {}: a process of the host listens there", shown(port))
        }
        other => other.map(drop).with_context(|| format!("cannot publish {}", shown(port))),
    }
}

/// Claims ports that [`choose`] found free, under the same lock.
///
/// # Errors
/// The file system's.
pub fn claim(state: &State, ports: &[Port], id: &str) -> Result<()> {
    for port in ports {
        let path = state.path(&["ports", &directory(port), &host(port)]);
        if state::claim(&path, id)?.is_some() {
            // Its owner has gone, or `choose` had refused.
            state::remove(&path)?;
            state::claim(&path, id)?;
        }
    }
    Ok(())
}

/// Gives ports back.
///
/// # Errors
/// The file system's.
pub fn give_back(state: &State, ports: &[Port], id: &str) -> Result<()> {
    ports
        .iter()
        .try_for_each(|port| state::release(&state.path(&["ports", &directory(port), &host(port)]), id))
}

fn shown(port: &Port) -> String {
    let host = port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    format!("{}/{}", SocketAddr::new(host, port.host_port), port.protocol)
}

fn directory(port: &Port) -> String {
    format!("{}-{}", port.protocol, port.host_port)
}

/// The claim's name: `any`, or the address.
fn host(port: &Port) -> String {
    port.host_ip.map_or_else(|| "any".into(), |address| address.to_string())
}

/// Whether two host addresses (as in a claim's name) stand for one and the same socket address somewhere.
fn overlap(one: &str, other: &str) -> bool {
    let family = |text: &str| text.parse::<IpAddr>().ok().map(|address| address.is_ipv4());
    let wild =
        |text: &str| text == "any" || text.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    let same_family = match (family(one), family(other)) {
        (Some(one), Some(other)) => one == other,
        _ => true,
    };
    same_family && (one == other || wild(one) || wild(other))
}

fn collide(one: &Port, other: &Port) -> bool {
    directory(one) == directory(other) && overlap(&host(one), &host(other))
}

fn owner(state: &State, port: &Port) -> Result<Option<String>> {
    let directory = state.path(&["ports", &directory(port)]);
    for name in state::list(&directory)? {
        if overlap(&name, &host(port)) {
            let owner = state::read(&directory.join(&name))?.unwrap_or_default();
            if is_alive(state, &owner) {
                return Ok(Some(owner));
            }
        }
    }
    Ok(None)
}

/// Whether the host could listen there itself. std sets `SO_REUSEADDR`, so that a connection in its last minute
/// (TIME_WAIT) does not count.
fn bind(port: &Port) -> std::io::Result<u16> {
    let mut host = port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    if port.host_port == DNS && host.is_unspecified() {
        host = if host.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    }
    let address = SocketAddr::new(host, port.host_port);
    let bound = match port.protocol.as_str() {
        "tcp" => TcpListener::bind(address).and_then(|socket| socket.local_addr()),
        "udp" => UdpSocket::bind(address).and_then(|socket| socket.local_addr()),
        // Rarely in the kernel, and nobody else on the host speaks it: claims alone decide.
        _ => return Ok(port.host_port),
    };
    match bound {
        Ok(address) => Ok(address.port()),
        // An ordinary user may not listen below 1024, but that says nothing about the port.
        Err(err) if err.kind() == ErrorKind::PermissionDenied => Ok(port.host_port),
        Err(err) => Err(err),
    }
}

fn pick(state: &State, port: &Port, chosen: &[Port]) -> Result<u16> {
    for attempt in 0..200u16 {
        let mut candidate = port.clone();
        candidate.host_port = match port.protocol.as_str() {
            "tcp" | "udp" => {
                let seen = Port { host_ip: port.host_ip.filter(|_| !rootless::is_used()), ..port.clone() };
                bind(&seen).with_context(|| format!("pick a port for {}", port.container_port))?
            }
            _ => 49_152 + attempt,
        };
        if !chosen.iter().any(|other| collide(other, &candidate)) && owner(state, &candidate)?.is_none() {
            return Ok(candidate.host_port);
        }
    }
    fault!(Busy, "no free host port for container port {}", port.container_port)
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn wildcards_overlap_their_family() {
        assert!(overlap("any", "10.0.0.1") && overlap("any", "::1") && overlap("0.0.0.0", "127.0.0.1"));
        assert!(!overlap("0.0.0.0", "::1") && !overlap("10.0.0.1", "10.0.0.2") && overlap("::", "::1"));
    }
}
