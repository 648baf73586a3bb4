//! `shim wait`

use anyhow::Result;

use crate::attach::client;
use crate::attach::wire::Request;
use crate::container::{Store, status};

pub fn run(store: &Store, name: &str) -> Result<Option<String>> {
    let id = store.resolve(name)?;
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
