//! The address of an endpoint that the network's own DHCP server gives: asked for, and followed when it changes.

use anyhow::{Context as _, Result};
use contracts::fault;

use super::files;
use super::namespace::{self, Namespace};
use super::record::Record;
use crate::dhcp::{self, lease::Lease};
use crate::firewall::Filter;
use crate::network::Network;
use crate::rules;
use crate::state::State;

/// Asks the network's own server for the address of a plugged endpoint, where it is that server's to give.
///
/// # Errors
/// Nobody gives one.
pub fn ask(state: &State, namespace: &Namespace, record: &mut Record, network: &Network) -> Result<()> {
    if !network.dhcp {
        return Ok(());
    }
    // From here to the end without the lock: what is made is known by the record.
    if record.joining.is_none() {
        record.begin(None)?;
    }
    record.write(state)?;
    state.settled()?;
    let endpoint = record.status.networks.get(&network.name).context("endpoint was not planned")?;
    let earlier = record.endpoints().take_while(|(name, _)| *name != network.name);
    let is_way_out = !network.internal && network.has_default_route()?;
    let is_first = earlier.filter(|(_, other)| other.gateway.is_some()).count() == 0;
    let wanted = dhcp::Wanted {
        id: &record.id,
        hostname: &record.status.hostname,
        interface: &endpoint.interface,
        netns: &namespace::path(state, &record.id),
        metric: if is_way_out && is_first { Some(network.metric()?) } else { None },
    };
    let dir = state.path(&["dhcp"]);
    let asked = state.meanwhile(|| dhcp::obtain(&dir, namespace, wanted))?;
    if !record.is_ours(state)? {
        if Record::read(state, &record.id)?.is_none() {
            dhcp::release(&dir, &record.id, None)?;
        }
        fault!(WrongState, "network {}: {} was detached meanwhile", network.name, record.id);
    }
    if record.joining.as_ref().is_some_and(|joining| joining.network.is_none()) {
        state.pending(&record.id)?;
    }
    let lease = asked.with_context(|| format!("network {}", network.name))?;
    if let Some(endpoint) = record.status.networks.get_mut(&network.name) {
        endpoint.address = lease.address.map(|address| address.to_string()).unwrap_or_default();
        endpoint.gateway = lease.router.filter(|_| is_way_out);
    }
    Ok(())
}

/// Takes in what a server has changed of a lease: in the record and in the container's files.
///
/// # Errors
/// The file system's.
pub fn follow(state: &State, lease: &Lease) -> Result<()> {
    // Whoever is at work on it reads the lease afterwards.
    let Some(mut record) = Record::read(state, &lease.id)?.filter(|record| record.joining.is_none()) else {
        return Ok(());
    };
    let found = record.endpoints().find(|(_, endpoint)| endpoint.interface == lease.interface);
    let Some(network) = found.map(|(name, _)| name.to_owned()) else { return Ok(()) };
    let network = crate::network::find(state, &network)?;
    let is_way_out = !network.internal && network.has_default_route()?;
    let published = record.published();
    if let Some(endpoint) = record.status.networks.get_mut(&network.name) {
        endpoint.address = lease.address.map(|address| address.to_string()).unwrap_or_default();
        endpoint.gateway = lease.router.filter(|_| is_way_out && lease.address.is_some());
    }
    let networks = record.networks(state)?;
    files::write(state, &mut record, &networks, true)?;
    record.write(state)?;
    if record.published() != published {
        rules::reload(state, &Filter::open(state)?, Some(&record))?;
    }
    Ok(())
}
