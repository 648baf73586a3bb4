//! `shim boot`: after a start of the machine, the containers whose policy asks for it; `--stop` before it goes down.

use anyhow::{Context as _, Result};
use contracts::exit::Exit;

use crate::container::{Store, again, remove, start, status};
use crate::supervisor::wants_restart;

pub fn run(store: &Store) -> Result<Exit> {
    let mut names = Vec::new();
    for id in store.ids()? {
        let Ok(record) = store.load(&id) else { continue };
        let policy = &record.host_config.restart_policy;
        // Looking also clears away what the reboot left.
        let status = status::read(store, &id)?;
        if record.host_config.auto_remove && !status.state.is_live() {
            let lock = store.lock(&id)?;
            if !status::read_locked(store, &id, &lock)?.state.is_live()
                && store.dir(&id).join("container.json").exists()
            {
                remove::everything(store, &record, true)?;
            }
            continue;
        }
        let wanted = match policy.name.as_str() {
            "always" => !status.started_at.is_empty(),
            "unless-stopped" => !status.started_at.is_empty() && !status.manually_stopped,
            // It failed, or was running when the machine went down (255).
            "on-failure" => {
                !status.started_at.is_empty()
                    && !status.manually_stopped
                    && wants_restart(policy, status.exit_code, status.restart_count)
            }
            _ => false,
        };
        if wanted && !status.state.is_live() {
            names.push((record.created, id, record.name));
        }
    }
    names.sort();
    let ids: Vec<String> = names.iter().map(|(_, id, _)| id.clone()).collect();
    super::each(&ids, |id| {
        again::again(store, id, start::Start::default())?;
        Ok(names.iter().find(|(_, known, _)| known == id).map(|(_, _, name)| name.clone()))
    })
}

/// Asks every supervisor to end its container, as a shutdown does, and waits until all have: each has its own stop
/// timeout.
pub fn stop(store: &Store) -> Result<Exit> {
    let mut asked = Vec::new();
    for id in store.ids()? {
        let Ok(record) = store.load(&id) else { continue };
        let status = status::read(store, &id)?;
        let Some(owner) = status.owner.filter(|_| status.state.is_live()) else { continue };
        let Some(supervisor) = owner.open().with_context(|| format!("open the supervisor of {id}"))? else {
            continue;
        };
        match sys::pidfd::send_signal(&supervisor, libc::SIGTERM) {
            // It has just ended by itself.
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => continue,
            other => other.with_context(|| format!("signal the supervisor of {id}"))?,
        }
        asked.push((id, record.name, owner));
    }
    let ids: Vec<String> = asked.iter().map(|(id, _, _)| id.clone()).collect();
    super::each(&ids, |id| {
        let Some((_, name, owner)) = asked.iter().find(|(known, _, _)| known == id) else { return Ok(None) };
        again::wait_for_end(store, id, *owner)?;
        Ok(Some(name.clone()))
    })
}
