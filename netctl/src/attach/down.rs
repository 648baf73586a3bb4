//! `netctl down`: everything that `up` made goes, in whatever state a crash left it.

use std::fs;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::record::Record;
use super::{claim, endpoint, files, member, namespace, port, way_out};
use crate::behind;
use crate::dhcp;
use crate::dns;
use crate::firewall::{Filter, choice};
use crate::netlink::link;
use crate::netlink::socket::Socket;
use crate::network::{self, Network, bridge};
use crate::rootless;
use crate::rules;
use crate::state::{self, State};

/// Detaches `id`; not being attached is no error. Returns as soon as the namespace and the files are gone: what makes
/// the kernel wait for an RCU grace period (rules, the last bridge) is done by a child that keeps the lock, unless
/// `wait`.
///
/// # Errors
/// The kernel's or the file system's refusal; `down` again, or `gc`, goes on from there.
pub fn down(state: &State, id: &str, wait: bool) -> Result<()> {
    contracts::name::check("container id", id)?;
    let Some(record) = Record::read(state, id)? else { return undo(state, id) };
    state.pending(id)?;
    release(state, &record).with_context(|| format!("detach {id}"))?;
    // A child would be without the thread on the host's side.
    if wait || rootless::is_used() || !has_slow_part(state, &record)? {
        return finish(state, &record).with_context(|| format!("detach {id}"));
    }
    // On failure the id stays pending, and the next command tries again and reports.
    behind::leave(|| finish(state, &record))
}

/// Undoes whatever there is of `id`, with or without a record, here and now.
///
/// # Errors
/// As [`down`].
pub fn undo(state: &State, id: &str) -> Result<()> {
    match Record::read(state, id)? {
        Some(record) => undo_record(state, &record),
        None => {
            // Killed between its first claim and the record, or never attached.
            let record = Record { id: id.into(), ..Record::default() };
            sweep(state, id)?;
            let live = state.live()?;
            retire(state, live.iter().map(String::as_str))?;
            undo_record(state, &record)
        }
    }
}

/// As [`undo`], for a record that may not be written yet.
///
/// # Errors
/// As [`down`].
pub fn undo_record(state: &State, record: &Record) -> Result<()> {
    release(state, record)?;
    finish(state, record)
}

/// The quick part: the namespace, the files, the addresses.
fn release(state: &State, record: &Record) -> Result<()> {
    let id = &record.id;
    dhcp::release(&state.path(&["dhcp"]), id, None)?;
    namespace::drop_mount(state, id)?;
    let dir = files::directory(state, id);
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    for (network, endpoint) in record.endpoints() {
        member::leave(state, id, network)?;
        endpoint::give_back(state, id, network, endpoint)?;
    }
    Ok(())
}

fn idle<'a>(state: &State, networks: impl Iterator<Item = &'a str>) -> Result<Vec<Network>> {
    let mut idle = Vec::new();
    for name in networks {
        if !state.has_members(name)? && state.path(&["members", name]).exists() {
            // Removed behind our back: nothing is known of its bridge, so nothing is done.
            idle.extend(network::find(state, name));
        }
    }
    Ok(idle)
}

fn has_slow_part(state: &State, record: &Record) -> Result<bool> {
    let idle = idle(state, record.order.iter().map(String::as_str))?;
    Ok(!record.status.ports.is_empty() || !idle.is_empty())
}

/// The part that may wait: published ports, bridges without members, and at the very end the record.
fn finish(state: &State, record: &Record) -> Result<()> {
    withdraw(state, record)?;
    retire(state, record.order.iter().map(String::as_str))?;
    port::give_back(state, &record.status.ports, &record.id)?;
    state::remove(&state.path(&["attachments", &format!("{}.json", record.id)]))?;
    rootless::withdraw(state, record)?;
    claim::forget_idle(state)?;
    namespace::forget(state);
    dns::forget(&state.path(&["dns"]))?;
    rootless::forget(state)?;
    for empty in ["attachments", "files", "members", "ports", "dns"] {
        let _ = fs::remove_dir(state.path(&[empty]));
    }
    state.settled()
}

/// Takes the record's ports out of the firewall, but none that another container has claimed since.
fn withdraw(state: &State, record: &Record) -> Result<()> {
    let ports = record.published();
    if ports.is_empty() {
        return Ok(());
    }
    let filter = Filter::open(state)?;
    if !filter.remove_ports(&ports)? {
        // Some of them were never there (a crash), or somebody flushed the rules: say it all again.
        state::remove(&state.path(&["attachments", &format!("{}.json", record.id)]))?;
        rules::reload(state, &filter, None)?;
    }
    filter.close_at_exit();
    Ok(())
}

/// Takes down the networks that nobody is on any more.
///
/// # Errors
/// The kernel's refusal.
pub fn retire<'a>(state: &State, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let idle = idle(state, names)?;
    if idle.is_empty() {
        return choice::forget(state);
    }
    let host = Socket::route()?;
    for network in &idle {
        let dir = state.path(&["members", &network.name]);
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        bridge::remove(&host, network, shares_parent(state, network)?)?;
    }
    let filter = Filter::open(state)?;
    rules::refresh(state, &filter)?;
    filter.close_at_exit();
    choice::forget(state)
}

/// Whether containers of another network are on the same parent.
fn shares_parent(state: &State, network: &Network) -> Result<bool> {
    if network.is_bridge() {
        return Ok(false);
    }
    let others = state.live()?;
    let mut others = others.iter().filter(|name| **name != network.name);
    Ok(others.any(|name| network::find(state, name).is_ok_and(|other| other.interface == network.interface)))
}

/// Leaves one network.
///
/// # Errors
/// `NotFound` where the container is not on it.
pub fn disconnect(state: &State, id: &str, wanted: &str) -> Result<()> {
    let mut record = settle(state, id)?;
    let network = network::find(state, wanted)?;
    if record.shares.is_some() || !record.status.networks.contains_key(&network.name) {
        fault!(NotFound, "{id} is not connected to network {}", network.name);
    }
    leave(state, &mut record, &network.name)?;
    record.write(state)
}

/// The record of an id that nobody else is at work on; what a killed `connect` left of one network is undone first.
///
/// # Errors
/// `NotFound`, `Busy`.
pub fn settle(state: &State, id: &str) -> Result<Record> {
    let mut record = Record::expect(state, id)?;
    let Some(joining) = record.joining.clone() else { return Ok(record) };
    if joining.process.is_running() {
        fault!(Busy, "{id} is being attached by process {}", joining.process.pid);
    }
    let Some(network) = joining.network else {
        undo(state, id)?;
        fault!(NotFound, "{id} is not attached to any network");
    };
    state.sweep_temporary()?;
    withdraw_from(state, &mut record, &network)?;
    record.joining = None;
    record.write(state)?;
    Ok(record)
}

/// Undoes a connection from any point.
///
/// # Errors
/// The kernel's refusal.
pub fn withdraw_from(state: &State, record: &mut Record, network: &str) -> Result<()> {
    leave(state, record, network)?;
    // Leased, but not in the record yet.
    claim::give_back_all(state, network, &record.id)
}

/// Takes one endpoint out of the kernel, the files and the record (which the caller writes).
///
/// # Errors
/// The kernel's refusal.
pub fn leave(state: &State, record: &mut Record, network: &str) -> Result<()> {
    let Some(endpoint) = record.status.networks.get(network).cloned() else { return Ok(()) };
    let published = record.published();
    let name = &endpoint.interface;
    let namespace = namespace::open(state, &record.id)?;
    dhcp::release(&state.path(&["dhcp"]), &record.id, Some(name))?;
    link::remove(&namespace.inside, name)?;
    record.status.networks.remove(network);
    record.order.retain(|other| other != network);
    record.host_ends.remove(network);
    member::leave(state, &record.id, network)?;
    endpoint::give_back(state, &record.id, network, &endpoint)?;
    // The default route went with the link: the next network in order takes over.
    way_out::restore(state, &namespace, record)?;
    if record.published() != published {
        rules::reload(state, &Filter::open(state)?, Some(record))?;
    }
    retire(state, [network].into_iter())?;
    let networks = record.networks(state)?;
    files::write(state, record, &networks, true)?;
    Ok(())
}

/// Removes all claims of an id that has no record.
fn sweep(state: &State, id: &str) -> Result<()> {
    for kind in ["leases", "ports"] {
        for directory in state::list(&state.path(&[kind]))? {
            let directory = state.path(&[kind, &directory]);
            if !directory.is_dir() {
                continue;
            }
            for name in state::list(&directory)? {
                state::release(&directory.join(name), id)?;
            }
        }
    }
    for network in state.live()? {
        member::leave(state, id, &network)?;
    }
    Ok(())
}

/// Removes whatever belongs to nobody: namespaces, files and claims without a record, records without a namespace,
/// bridges without members. Returns the ids that it found.
///
/// # Errors
/// As [`down`].
pub fn collect(state: &State) -> Result<Vec<String>> {
    state.sweep_temporary()?;
    let mut found = Vec::new();
    for id in state.attached()? {
        let record = Record::read(state, &id)?.unwrap_or_default();
        let own = record.status.netns.is_some() && record.shares.is_none();
        if own && !namespace::is_mounted(state, &id) || record.is_abandoned() {
            undo(state, &id)?;
            found.push(id);
        } else if record.joining.is_some_and(|at| !at.process.is_running()) {
            settle(state, &id)?;
            found.push(id);
        }
    }
    let attached = state.attached()?;
    let mut ids = state::list(&state.path(&["files"]))?;
    for kind in namespace::KINDS {
        ids.extend(state::list(&state.path(&[kind]))?);
    }
    for kind in ["leases", "ports"] {
        for directory in state::list(&state.path(&[kind]))? {
            for name in state::list(&state.path(&[kind, &directory])).unwrap_or_default() {
                ids.extend(state::read(&state.path(&[kind, &directory, &name]))?);
            }
        }
    }
    for network in state.live()? {
        ids.extend(state.members(&network)?);
    }
    ids.extend(dhcp::lease::all(&state.path(&["dhcp"]))?.into_iter().map(|lease| lease.id));
    ids.sort();
    ids.dedup();
    for id in ids {
        if !attached.contains(&id) && contracts::name::check("id", &id).is_ok() {
            undo(state, &id)?;
            found.push(id);
        }
    }
    let live = state.live()?;
    retire(state, live.iter().map(String::as_str))?;
    namespace::forget(state);
    Ok(found)
}
