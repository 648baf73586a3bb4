//! `shim healthcheck run`

use anyhow::{Context as _, Result};
use contracts::container::State;
use contracts::exit::Exit;
use contracts::fault;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::HealthcheckVerb;
use crate::container::{Store, status};

/// Has the supervisor run the check once, out of turn: its result is in the container's health like any other. 0 where
/// it succeeded, 1 where not.
pub fn run(store: &Store, verb: &HealthcheckVerb) -> Result<Exit> {
    let HealthcheckVerb::Run(name) = verb;
    let id = store.resolve(&name.container)?;
    let check = store.load(&id)?.config.healthcheck.unwrap_or_default();
    if !matches!(check.test.first().map(String::as_str), Some("CMD" | "CMD-SHELL")) {
        fault!(WrongState, "container {id} has no defined healthcheck");
    }
    if status::read(store, &id)?.state != State::Running {
        fault!(WrongState, "container {id} is not running");
    }
    client::request(store, &id, &Request::Health).with_context(|| format!("container {}", name.container))?;
    Ok(Exit::Ok)
}
