//! Which of a container's networks its default routes lead by: the first in the record's order that has a gateway.

use anyhow::{Context as _, Result};
use contracts::network::Endpoint;
use nix::errno::Errno;

use super::namespace::Namespace;
use super::record::Record;
use crate::cidr::Cidr;
use crate::dhcp;
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::netlink::route::{self, Fate};
use crate::netlink::socket::errno;
use crate::network::Network;
use crate::state::State;

/// Takes the default routes from the networks that a new one goes before.
///
/// # Errors
/// The kernel's refusal.
pub fn make_way(state: &State, namespace: &Namespace, record: &Record, network: &Network) -> Result<()> {
    let new = record.status.networks.get(&network.name).context("endpoint was not planned")?;
    let leads = [new.gateway.is_some() || network.dhcp, new.gateway6.is_some()];
    for (_, other) in record.endpoints().skip_while(|(name, _)| *name != network.name).skip(1) {
        for (leads, gateway) in leads.into_iter().zip([other.gateway, other.gateway6]) {
            let Some(gateway) = gateway.filter(|_| leads) else { continue };
            let mut batch = Batch::new();
            route::remove(&mut batch, Cidr::any(gateway), Some(gateway), Fate::Unicast);
            match namespace.inside.run(&batch) {
                // It did not lead.
                Err(err) if errno(&err) == Some(Errno::ESRCH) => {}
                other => other?,
            }
            if gateway.is_ipv4() {
                dhcp::set_way_out(&state.path(&["dhcp"]), &record.id, &other.interface, None)?;
            }
        }
    }
    Ok(())
}

/// Gives the default route to the first endpoint in order that has a gateway, if there is none.
///
/// # Errors
/// The kernel's refusal.
pub fn restore(state: &State, namespace: &Namespace, record: &Record) -> Result<()> {
    for v4 in [true, false] {
        let gateway = |endpoint: &Endpoint| if v4 { endpoint.gateway } else { endpoint.gateway6 };
        let first = record.endpoints().find_map(|(name, end)| Some((name, end, gateway(end)?)));
        let Some((name, endpoint, gateway)) = first else { continue };
        let network = crate::network::find(state, name)?;
        let metric = network.metric()?;
        let Some(inside) = link::find(&namespace.inside, &endpoint.interface)? else { continue };
        let mut batch = Batch::new();
        link::add_default_route(&mut batch, inside.index, gateway, metric);
        match namespace.inside.run(&batch) {
            // The one that went was not the first: its default route still stands.
            Err(err) if errno(&err) == Some(Errno::EEXIST) => {}
            other => other?,
        }
        if network.dhcp && v4 {
            let way = Some((metric, gateway));
            dhcp::set_way_out(&state.path(&["dhcp"]), &record.id, &endpoint.interface, way)?;
        }
    }
    Ok(())
}
