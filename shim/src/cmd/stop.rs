//! `shim stop` and `shim restart`

use anyhow::Result;
use contracts::fault::Kind;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::StopFlags;
use crate::container::{Store, again, start, status};
use crate::events;
use crate::request::signal;

pub fn stop(store: &Store, name: &str, flags: &StopFlags) -> Result<Option<String>> {
    let id = match store.resolve(name) {
        Err(err) if flags.ignore && Kind::of(&err) == Some(Kind::NotFound) => return Ok(None),
        other => other?,
    };
    if status::read(store, &id)?.state.is_live() {
        ask(store, &id, flags)?;
    }
    Ok(Some(name.to_owned()))
}

pub fn restart(store: &Store, name: &str, flags: &StopFlags) -> Result<Option<String>> {
    if stop(store, name, flags)?.is_none() {
        return Ok(None);
    }
    let id = store.resolve(name)?;
    again::again(store, &id, start::Start::default())?;
    events::container(store, &store.load(&id)?, "restart", &[]);
    Ok(Some(name.to_owned()))
}

/// Asks the supervisor and waits until it is done.
fn ask(store: &Store, id: &str, flags: &StopFlags) -> Result<()> {
    let record = store.load(id)?;
    let default = if record.config.stop_signal.is_empty() { "TERM" } else { &record.config.stop_signal };
    let signal = signal::parse(flags.signal.as_deref().unwrap_or(default))?;
    let timeout = flags.time.or(record.config.stop_timeout).unwrap_or(10);
    let Some(socket) = client::connect(store, id)? else { return Ok(()) };
    client::until_exit(&socket, &Request::Stop { signal, timeout })?;
    events::container(store, &record, "stop", &[]);
    Ok(())
}
