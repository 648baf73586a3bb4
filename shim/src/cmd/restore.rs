//! `shim restore` (podman's): go on from the checkpoint that `shim checkpoint` made.

use anyhow::Result;
use contracts::fault;

use crate::cli::RestoreFlags;
use crate::container::start::Start;
use crate::container::{Store, again, checkpoints};

pub fn run(store: &Store, name: &str, flags: &RestoreFlags) -> Result<Option<String>> {
    let id = store.resolve(name)?;
    let dir = checkpoints::dir(store, &id, None)?;
    let images = checkpoints::find(&dir, checkpoints::DEFAULT, name)?;
    if !again::again(store, &id, Start { checkpoint: Some(&images), ..Start::default() })? {
        fault!(WrongState, "container {name} is running or paused: it cannot be restored");
    }
    if !flags.keep {
        checkpoints::remove(&images)?;
    }
    Ok(Some(name.to_owned()))
}
