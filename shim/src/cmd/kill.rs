//! `shim kill`

use anyhow::Result;
use contracts::container::State;
use contracts::fault;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::cli::KillFlags;
use crate::container::{Store, again, status};
use crate::request::signal;

pub fn run(store: &Store, name: &str, flags: &KillFlags) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    let Ok(number) = signal::parse(&flags.signal) else {
        fault!(Usage, "cannot kill container: {name}: invalid signal: {}", flags.signal)
    };
    let status = status::read(store, &id)?;
    if !status.state.is_live() {
        fault!(WrongState, "cannot kill container: {name}: container {id} is not running");
    }
    if number != libc::SIGKILL || status.state == State::Restarting {
        client::request(store, &id, &Request::Signal { number })?;
        return Ok(Some(name.to_owned()));
    }
    // After a SIGKILL the next command finds the container stopped.
    let Some(socket) = client::connect(store, &id)? else { return Ok(Some(name.to_owned())) };
    client::until_exit(&socket, &Request::Stop { signal: number, timeout: -1 })?;
    if let Some(owner) = status.owner.filter(|_| store.load(&id).is_err()) {
        again::wait_for(store, &id, owner)?;
    }
    Ok(Some(name.to_owned()))
}
