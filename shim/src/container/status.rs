//! The true state of a container, whatever was killed in between: what stands in a file counts only while the
//! process that wrote it lives.

use anyhow::Result;
use contracts::atomic;
use contracts::container::{State, Status, now};
use contracts::lock::Lock;

use super::unmount::unmount;
use super::{Store, remove, start};
use crate::supervisor::wants_restart;
use crate::{events, tools, volume};

/// Reads the state; cleans up after an owner that was killed, takes a payload that outlived its supervisor into care
/// again, and starts one again that did not, where its policy wants that.
pub fn read(store: &Store, id: &str) -> Result<Status> {
    if let Some(status) = settled(store, id)? {
        return Ok(status);
    }
    // Held: somebody is at work on it right now (starting or removing), and will leave it settled.
    let Some(lock) = Lock::try_exclusive(&store.dir(id).join("lock"))? else {
        return stale(store, id);
    };
    revived(store, id, &lock)
}

/// [`read`] for a caller that holds the container's lock.
pub fn read_locked(store: &Store, id: &str, lock: &Lock) -> Result<Status> {
    match settled(store, id)? {
        Some(status) => Ok(status),
        None => recover(store, id, lock, false),
    }
}

/// A container whose supervisor and payload were both killed starts again where its policy wants that.
fn revived(store: &Store, id: &str, lock: &Lock) -> Result<Status> {
    // Only then it ran since the machine was started (after a reboot `boot` decides), or who was to start it again was killed.
    let live = atomic::read_json::<Status>(&store.live_status(id))?;
    let ran = match &live {
        Some(live) => live.state.is_live(),
        None => atomic::read_json::<Status>(&store.kept_status(id))?
            .is_some_and(|kept| kept.state == State::Restarting),
    };
    let status = match settled(store, id)? {
        Some(status) => status,
        None => recover(store, id, lock, ran)?,
    };
    if status.owner.is_none() && status.state == State::Restarting {
        // Where it cannot be started, its status says why.
        let _ = start::revive(store, &store.load(id)?, lock);
        return stale(store, id);
    }
    Ok(status)
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

/// The owner was killed. Either its payload still runs, then a new supervisor takes it over; or all is cleaned up. `restarts`:
/// the caller starts it again where it is [`State::Restarting`] then, as its policy wants.
fn recover(store: &Store, id: &str, lock: &Lock, restarts: bool) -> Result<Status> {
    let mut status = stale(store, id)?;
    let record = store.load(id)?;
    if status.process.is_some_and(|process| process.is_running()) && status.state.is_live() {
        start::adopt(store, &record, lock)?;
        return stale(store, id);
    }
    let _ = tools::run(tools::runtime(store, &record).args(["delete", "--force", id]));
    let network = tools::network_down(id);
    if status.state.is_live() || (status.process.is_some() && status.finished_at.is_empty()) {
        // Nobody saw it end; unless it was to be started again at that moment.
        if status.state == State::Restarting {
            // It was counted, and has not come about.
            status.restart_count = status.restart_count.saturating_sub(1);
        } else {
            status.exit_code = 255;
            status.finished_at = now();
            events::container(store, &record, "die", &[("exitCode", "255")]);
        }
        status.state = State::Exited;
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
    unmount(store, id)?;
    let policy = &record.host_config.restart_policy;
    if restarts && !status.manually_stopped && wants_restart(policy, status.exit_code, status.restart_count) {
        // Should this process be killed now, the next one knows what was to be done.
        status.state = State::Restarting;
        status.restart_count += 1;
    }
    store.save_kept(id, &status)?;
    let _ = remove::live(store, id);
    let _ = volume::options::release(store, &record);
    Ok(status)
}
