//! The true state of a container, whatever was killed in between: what stands in a file counts only while the
//! process that wrote it lives.

use std::fs;

use anyhow::Result;
use contracts::atomic;
use contracts::container::{State, Status, now};
use contracts::lock::Lock;

use super::{Store, remove, start};
use crate::{events, tools};

/// Reads the state; cleans up after an owner that was killed, and takes a payload that outlived its supervisor into
/// care again.
pub fn read(store: &Store, id: &str) -> Result<Status> {
    if let Some(status) = settled(store, id)? {
        return Ok(status);
    }
    // Held: somebody is at work on it right now (starting or removing), and will leave it settled.
    let Some(lock) = Lock::try_exclusive(&store.dir(id).join("lock"))? else {
        return stale(store, id);
    };
    read_locked(store, id, &lock)
}

/// [`read`] for a caller that holds the container's lock.
pub fn read_locked(store: &Store, id: &str, lock: &Lock) -> Result<Status> {
    match settled(store, id)? {
        Some(status) => Ok(status),
        None => recover(store, id, lock),
    }
}

/// The status where nobody has to do anything: an owner lives, or the container is at rest.
fn settled(store: &Store, id: &str) -> Result<Option<Status>> {
    if let Some(status) = atomic::read_json::<Status>(&store.live_status(id))? {
        return Ok(status.owner.is_some_and(|owner| owner.is_running()).then_some(status));
    }
    let kept = atomic::read_json::<Status>(&store.kept_status(id))?.unwrap_or_default();
    // "Running" without a live side: the machine was restarted.
    Ok((!kept.state.is_live() && !store.live(id).exists()).then_some(kept))
}

fn stale(store: &Store, id: &str) -> Result<Status> {
    let live = atomic::read_json::<Status>(&store.live_status(id))?;
    let kept = || atomic::read_json::<Status>(&store.kept_status(id));
    Ok(match live {
        Some(status) => status,
        None => kept()?.unwrap_or_default(),
    })
}

/// The owner was killed. Either its payload still runs, then a new supervisor takes it over; or all is cleaned up.
fn recover(store: &Store, id: &str, lock: &Lock) -> Result<Status> {
    let mut status = stale(store, id)?;
    let record = store.load(id)?;
    if status.process.is_some_and(|process| process.is_running()) && status.state.is_live() {
        start::adopt(store, &record, lock)?;
        return stale(store, id);
    }
    let _ = tools::run(tools::runtime(store, &record).args(["delete", "--force", id]));
    let network = tools::network_down(id);
    if status.state.is_live() || (status.process.is_some() && status.finished_at.is_empty()) {
        // Nobody saw it end.
        status.exit_code = 255;
        status.finished_at = now();
        status.state = State::Exited;
        events::container(store, &record, "die", &[("exitCode", "255")]);
    }
    status.owner = None;
    status.process = None;
    status.network = None;
    if record.host_config.auto_remove {
        remove::everything(store, &record, true)?;
        status.state = State::Removing;
        return Ok(status);
    }
    network?;
    tools::unmount(&store.bundle(id))?;
    store.save_kept(id, &status)?;
    let _ = fs::remove_dir_all(store.live(id));
    Ok(status)
}
