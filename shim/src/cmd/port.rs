//! `shim port`

use std::net::IpAddr;

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
            format!("{}/{} -> {}:{}\n", port.container_port, port.protocol, host(port), port.host_port)
        };
        show::text(&ports.iter().map(line).collect::<String>())?;
        return Ok(Exit::Ok);
    };
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let hits = network
        .ports
        .iter()
        .filter(|port| port.container_port.to_string() == number && port.protocol == protocol);
    let lines: String = hits.map(|port| format!("{}:{}\n", host(port), port.host_port)).collect();
    if lines.is_empty() {
        fault!(NotFound, "No public port '{wanted}' published for {}", flags.container);
    }
    show::text(&lines)?;
    Ok(Exit::Ok)
}

/// Where the host listens: all IPv4 addresses unless one was asked for.
pub fn host(port: &Port) -> String {
    match port.host_ip {
        None => "0.0.0.0".into(),
        Some(IpAddr::V6(ip)) => format!("[{ip}]"),
        Some(ip) => ip.to_string(),
    }
}
