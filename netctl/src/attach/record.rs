//! `STATE/net/attachments/<id>.json`: what was asked for one container and what was made.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use contracts::network::{Endpoint, Request, Status};
use contracts::process::Process;
use contracts::{atomic, fault};
use serde::{Deserialize, Serialize};

use crate::cidr::Cidr;
use crate::firewall::{Publish, protocol_number};
use crate::network::{self, Network};
use crate::state::{self, State};

/// One attachment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Format of this document: 1.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// What was asked.
    pub request: Request,
    /// What was answered.
    pub status: Status,
    /// Whose namespace and files it uses (`container:ID`).
    pub shares: Option<String>,
    /// The networks, those of the same priority in the order they were joined; the first that has a way out gives the
    /// default route.
    pub order: Vec<String>,
    /// Whether the host's side of its ports is another program's ([`crate::rootless`]), which hands all of them to us on
    /// one address.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rootless: bool,
    /// Network → name of the host's end of the veth pair.
    pub host_ends: BTreeMap<String, String>,
    /// Who is not done with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joining: Option<Joining>,
}

/// Who is at work on an attachment, perhaps without the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// The process; what one that has gone left is undone.
    pub process: Process,
    /// The network that it adds to others; `None` where nothing was before.
    pub network: Option<String>,
}

impl Record {
    /// Reads the record of `id`.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn read(state: &State, id: &str) -> Result<Option<Self>> {
        atomic::read_json(&state.path(&["attachments", &format!("{id}.json")]))
    }

    /// As [`Self::read`] of one that must be there.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn expect(state: &State, id: &str) -> Result<Self> {
        match Self::read(state, id)? {
            Some(record) => Ok(record),
            None => fault!(NotFound, "{id} is not attached to any network"),
        }
    }

    /// Notes that this process is at work on it.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn begin(&mut self, network: Option<&str>) -> Result<()> {
        let process = Process::current().context("look at the own process")?;
        self.joining = Some(Joining { process, network: network.map(String::from) });
        Ok(())
    }

    /// Whether its process was killed before it was done with the first networks.
    pub fn is_abandoned(&self) -> bool {
        self.joining.as_ref().is_some_and(|at| at.network.is_none() && !at.process.is_running())
    }

    /// Whether nobody has taken it away from this process while it did not hold the lock.
    ///
    /// # Errors
    /// An unreadable file.
    pub fn is_ours(&self, state: &State) -> Result<bool> {
        Ok(self.joining.is_none()
            || Self::read(state, &self.id)?.is_some_and(|now| now.joining == self.joining))
    }

    /// The id of the container that `text` names: by its id, its name, or how its id alone begins.
    ///
    /// # Errors
    /// `NotFound`; `Usage` where several begin so.
    pub fn resolve(state: &State, text: &str) -> Result<String> {
        let ids = state.attached()?;
        if ids.iter().any(|id| id == text) {
            return Ok(text.into());
        }
        for id in &ids {
            if Self::read(state, id)?.is_some_and(|record| record.request.name == text) {
                return Ok(id.clone());
            }
        }
        match ids.iter().filter(|id| id.starts_with(text)).collect::<Vec<_>>()[..] {
            [id] => Ok(id.clone()),
            [] => fault!(NotFound, "{text} is not attached to any network"),
            _ => fault!(Usage, "several containers' ids begin with {text}"),
        }
    }

    /// Its networks, in their order.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn networks(&self, state: &State) -> Result<Vec<Network>> {
        self.order.iter().map(|name| network::find(state, name)).collect()
    }

    /// Writes it.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, state: &State) -> Result<()> {
        state::make_dir(&state.path(&["attachments"]))?;
        atomic::write_json_volatile(&state.path(&["attachments", &format!("{}.json", self.id)]), self, 0o600)
    }

    /// Enters an endpoint behind those that go before it on the way out.
    pub fn enter(&mut self, network: &str, endpoint: Endpoint) {
        let goes_before = |(_, other): &(&str, &Endpoint)| other.gw_priority >= endpoint.gw_priority;
        let place = self.endpoints().take_while(goes_before).count();
        self.order.insert(place, network.into());
        self.status.networks.insert(network.into(), endpoint);
    }

    /// The endpoints in their order.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &Endpoint)> {
        self.order.iter().filter_map(|name| Some((name.as_str(), self.status.networks.get(name)?)))
    }

    /// The network by which published ports come in, in one address family: the first that has a way out.
    pub fn way_in(&self, v4: bool) -> Option<&str> {
        self.endpoints().find(|(_, endpoint)| reachable(endpoint, v4).is_some()).map(|(name, _)| name)
    }

    /// The published ports as the firewall holds them: to the first network, in each address family, that has a way
    /// out (an answer must find its way back).
    pub fn published(&self) -> Vec<Publish> {
        let mut found = Vec::new();
        for v4 in [true, false] {
            let Some(to) = self.endpoints().find_map(|(_, endpoint)| reachable(endpoint, v4)) else {
                continue;
            };
            for port in &self.status.ports {
                let Some(protocol) = protocol_number(&port.protocol) else { continue };
                if port.host_ip.is_none_or(|host| host.is_ipv4() == v4) {
                    let host = port.host_ip.filter(|host| !host.is_unspecified() && !self.rootless);
                    let (host_port, to_port) = (port.host_port, port.container_port);
                    found.push(Publish { host, protocol, host_port, to, to_port });
                }
            }
        }
        found
    }
}

fn reachable(endpoint: &Endpoint, v4: bool) -> Option<IpAddr> {
    let (address, gateway) = if v4 {
        (Some(&endpoint.address), endpoint.gateway)
    } else {
        (endpoint.address6.as_ref(), endpoint.gateway6)
    };
    gateway.and(address)?.parse().ok().map(|cidr: Cidr| cidr.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::network::Port;

    #[test]
    fn ports_go_to_the_first_network_with_a_way_out() {
        let mut record = Record { order: vec!["inner".into(), "outer".into()], ..Record::default() };
        let endpoint = |address: &str, gateway: Option<&str>| Endpoint {
            address: address.into(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            ..Endpoint::default()
        };
        record.status.networks.insert("inner".into(), endpoint("10.1.0.2/24", None));
        record.status.networks.insert("outer".into(), endpoint("10.2.0.2/24", Some("10.2.0.1")));
        let port = |ip: Option<&str>| Port {
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port: 1,
            container_port: 2,
            protocol: "tcp".into(),
            ..Port::default()
        };
        record.status.ports =
            vec![port(None), port(Some("0.0.0.0")), port(Some("127.0.0.1")), port(Some("::1"))];
        let hosts: Vec<_> = record.published().iter().map(|publish| publish.host).collect();
        assert_eq!(hosts, [None, None, Some("127.0.0.1".parse().unwrap())]);
        assert!(record.published().iter().all(|publish| publish.to.to_string() == "10.2.0.2"));
    }
}
