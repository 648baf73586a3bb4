//! `shim port`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::network::Port;

use crate::cli::PortFlags;
use crate::container::{Store, status};
use crate::show;

pub fn run(store: &Store, flags: &PortFlags) -> Result<Exit> {
    let id = store.resolve(&flags.container)?;
    let network = status::read(store, &id)?.network.unwrap_or_default();
    let Some(wanted) = &flags.port else {
        let mut ports: Vec<&Port> = network.ports.iter().collect();
        ports.sort_by_key(|port| (port.container_port, port.protocol.clone()));
        let line = |port: &&Port| {
            addresses(port)
                .map(|at| format!("{}/{} -> {at}\n", port.container_port, port.protocol))
                .collect::<String>()
        };
        show::text(&ports.iter().map(line).collect::<String>())?;
        return Ok(Exit::Ok);
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let hits = network
        .ports
        .iter()
        .filter(|port| port.container_port.to_string() == number && port.protocol == protocol);
    let lines: String = hits.flat_map(addresses).map(|at| format!("{at}\n")).collect();
    if lines.is_empty() {
        fault!(NotFound, "No public port '{wanted}' published for {}", flags.container);
    }
    show::text(&lines)?;
    Ok(Exit::Ok)
}

/// Where the host listens: all IPv4 addresses unless one was asked for.
pub fn addresses(port: &Port) -> impl Iterator<Item = String> + use<> {
    let number = port.host_port;
    let at = match port.host_ip {
        None => format!("0.0.0.0:{number}"),
        Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]:{number}"),
        Some(ip) => format!("{ip}:{number}"),
    };
    std::iter::once(at)
}
