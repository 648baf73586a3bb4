//! What the firewall has to hold for all that is attached, whoever keeps the books of it.

use anyhow::Result;

use crate::attach::record::Record;
use crate::firewall::{Filter, Zone, choice, stations};
use crate::guest::record as guest;
use crate::netlink::socket::Socket;
use crate::network;
use crate::state::State;

/// What the firewall has to know of all networks that have members now.
///
/// # Errors
/// An unreadable definition.
pub fn zones(state: &State) -> Result<Vec<Zone>> {
    let mut zones = Vec::new();
    for name in state.live()? {
        let network = network::find(state, &name)?;
        if network.is_bridge() {
            zones.push(network.zone()?);
        }
    }
    for zone in guest::zones(state)? {
        match zones.iter_mut().find(|known| known.bridge == zone.bridge) {
            Some(known) => known.merge(&zone),
            None => zones.push(zone),
        }
    }
    Ok(zones)
}

/// Writes the networks' part of the firewall.
///
/// # Errors
/// The kernel's refusal.
pub fn refresh(state: &State, filter: &Filter) -> Result<()> {
    filter.set_zones(&zones(state)?)
}

/// Writes the whole firewall anew from the files: after somebody flushed it.
///
/// # Errors
/// An unreadable record; the kernel's refusal.
pub fn reload(state: &State, filter: &Filter, extra: Option<&Record>) -> Result<()> {
    let mut ports = Vec::new();
    for id in state.attached()? {
        if extra.is_none_or(|record| record.id != id) {
            ports.extend(Record::read(state, &id)?.iter().flat_map(Record::published));
        }
    }
    ports.extend(extra.iter().flat_map(|record| record.published()));
    let guests = guest::all(state)?;
    ports.extend(guest::ports(&guests));
    let held: Vec<_> = guests.into_iter().filter_map(|guest| guest.station).collect();
    if !held.is_empty() {
        stations::hold(state.table, &held)?;
    }
    filter.rebuild(&zones(state)?, &ports)
}

/// Moves the rules to where the user wants them now, if they are elsewhere.
///
/// # Errors
/// As [`reload`].
pub fn move_rules(state: &State) -> Result<()> {
    let (Some(noted), Some(asked)) = (choice::noted(state)?, choice::asked()?) else { return Ok(()) };
    if noted == asked {
        return Ok(());
    }
    // Both exist for a moment, which is right for every packet; none would not be.
    let new = Filter::with(state, Socket::netfilter()?, asked)?;
    reload(state, &new, None)?;
    choice::note(state, asked)?;
    Filter::with(state, Socket::netfilter()?, noted)?.rebuild(&[], &[])
}
