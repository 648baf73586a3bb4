//! `shim wait`

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use contracts::container::{State, Status};
use contracts::fault::Kind;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::WaitFlags;
use crate::container::{Store, status};
use crate::request::units::duration;

pub fn run(store: &Store, name: &str, flags: &WaitFlags) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    if !flags.condition.is_empty() {
        return condition(store, &id, flags).map(|code| Some(code.to_string()));
    }
    let status = status::read(store, &id)?;
    if status.state.is_live()
        && let Some(socket) = client::connect(store, &id)?
        && let Some(exit) = client::until_exit(&socket, &Request::Wait)?
    {
        return Ok(Some(exit.code.to_string()));
    }
    // It ended meanwhile, or its supervisor did: the truth is on disk.
    Ok(Some(status::read(store, &id)?.exit_code.to_string()))
}

/// `--condition`, podman's: looks until one holds. The exit code, or -1 of a container that runs.
fn condition(store: &Store, id: &str, flags: &WaitFlags) -> Result<i32> {
    let interval = u64::try_from(duration("interval", &flags.interval)?).unwrap_or_default();
    let mut code = -1;
    loop {
        let status = match store.load(id).and_then(|_| status::read(store, id)) {
            Ok(status) => status,
            // It will never be anything else again.
            Err(err) if Kind::of(&err) == Some(Kind::NotFound) => return Ok(code),
            Err(err) => return Err(err),
        };
        code = if status.state.is_live() { -1 } else { status.exit_code };
        if flags.condition.iter().any(|wanted| holds(wanted, &status)) {
            return Ok(code);
        }
        sleep(Duration::from_nanos(interval.max(1_000_000)));
    }
}

fn holds(condition: &str, status: &Status) -> bool {
    let health = status.health.as_ref().filter(|_| status.state == State::Running);
    match condition {
        "stopped" | "not-running" => !status.state.is_live() && status.state != State::Created,
        "healthy" | "unhealthy" => health.is_some_and(|health| health.status == condition),
        "removed" => false,
        state => status.state.word() == state,
    }
}
