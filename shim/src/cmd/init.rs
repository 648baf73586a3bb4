//! `shim init`

use anyhow::Result;
use contracts::fault;

use crate::cli::Names;
use crate::container::start::{Start, start};
use crate::container::{Store, again};

pub fn run(store: &Store, name: &str, flags: &Names) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    let (lock, status) = again::lock_settled(store, &id)?;
    if status.owner.is_some() {
        if flags.which.all {
            return Ok(None);
        }
        fault!(WrongState, "container {name} is {}: it is ready already", status.state.word());
    }
    start(store, &store.load(&id)?, &lock, Start { init: true, ..Start::default() })?;
    Ok(Some(name.to_owned()))
}
