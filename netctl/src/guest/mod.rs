//! Attachments that others keep the books of, a CNI runtime or podman, coming and going.

pub mod record;

use anyhow::{Context as _, Result};
use contracts::atomic;

pub use self::record::{Guest, Key, all, read};
use self::record::{NEW, file_name, find, has_others, sweep, zone_name, zone_names};
use crate::firewall::{Filter, choice, stations};
use crate::rules;
use crate::state::{self, State};

/// Enters one, and opens the firewall for it. The file comes first: a crash afterwards leaves rules that the guest's
/// removal takes away.
///
/// # Errors
/// The kernel's refusal, for example where the port is published to another container.
pub fn enter(state: &State, guest: &Guest) -> Result<()> {
    let zone = zone_name(guest.zone.as_ref())?;
    let dir = state.path(&["guests", &zone]);
    // Killed before the rules were written: they are still to be.
    let marker = dir.join(NEW);
    let is_new = guest.zone.is_some() && (!dir.exists() || marker.exists());
    state::make_dir(&dir.join(&guest.key.container))?;
    if is_new {
        std::fs::write(&marker, "").with_context(|| format!("write {}", marker.display()))?;
    }
    atomic::write_json_volatile(&dir.join(&guest.key.container).join(file_name(&guest.key)), guest, 0o600)?;
    if let Some(station) = &guest.station {
        stations::hold(state.table, std::slice::from_ref(station))?;
    }
    if !is_new && guest.ports.is_empty() {
        return Ok(());
    }
    let filter = Filter::open(state)?;
    if is_new {
        rules::refresh(state, &filter)?;
        state::remove(&marker)?;
    }
    if !guest.ports.is_empty() && (has_others(state, &guest.key)? || !filter.add_ports(&guest.ports)?) {
        rules::reload(state, &filter, None)?;
    }
    Ok(())
}

/// Forgets one and closes the firewall behind it; one that is not there is no error.
///
/// # Errors
/// The kernel's refusal; then the next try goes on from here.
pub fn leave(state: &State, key: &Key) -> Result<()> {
    let Some((zone, guest)) = find(state, key)? else {
        return zone_names(state)?.iter().try_for_each(|zone| sweep(state, zone, &key.container).map(|_| ()));
    };
    if let Some(station) = &guest.station {
        stations::release(state.table, station)?;
    }
    let filter = Filter::open(state)?;
    let has_others = has_others(state, key)?;
    state::remove(&state.path(&["guests", &zone, &key.container, &file_name(key)]))?;
    let is_last = sweep(state, &zone, &key.container)?;
    let done = match (&guest, has_others) {
        // Another of its networks takes the ports over.
        (Guest { ports, .. }, true) if !ports.is_empty() => false,
        (Guest { zone: Some(_), ports, .. }, _) if is_last => {
            filter.remove_ports_and_set_zones(ports, &rules::zones(state)?)?
        }
        (Guest { ports, .. }, _) => ports.is_empty() || filter.remove_ports(ports)?,
    };
    if !done {
        rules::reload(state, &filter, None)?;
    }
    let _ = std::fs::remove_dir(state.path(&["guests"]));
    filter.close_at_exit();
    choice::forget(state)
}
