//! `shim pause` and `shim unpause`

use anyhow::{Context as _, Result};
use contracts::container::{Container, State};
use contracts::fault;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::container::{Store, status};
use crate::{events, tools};

pub fn run(store: &Store, name: &str, pause: bool) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    let lock = store.lock(&id)?;
    let record = store.load(&id)?;
    match (status::read_locked(store, &id, &lock)?.state, pause) {
        (State::Running, true) | (State::Paused, false) => {}
        // A `pause` that was killed before it could say so.
        (State::Running, false) if is_frozen(store, &record)? => {}
        (State::Paused, true) => fault!(WrongState, "Container {id} is already paused"),
        (State::Running, false) => fault!(WrongState, "Container {id} is not paused"),
        (State::Restarting, _) => {
            fault!(WrongState, "Container {id} is restarting, wait until the container is running")
        }
        _ => fault!(WrongState, "container {id} is not running"),
    }
    tools::run(tools::runtime(store, &record).args([if pause { "pause" } else { "resume" }, &id]))?;
    client::request(store, &id, &Request::Paused(pause))?;
    events::container(store, &record, if pause { "pause" } else { "unpause" }, &[]);
    Ok(Some(name.to_owned()))
}

/// What the runtime says.
fn is_frozen(store: &Store, record: &Container) -> Result<bool> {
    let said = tools::run(tools::runtime(store, record).args(["state", &record.id]))?;
    let state: serde_json::Value = serde_json::from_slice(&said).context("read the runtime's state")?;
    Ok(state["status"] == "paused")
}
