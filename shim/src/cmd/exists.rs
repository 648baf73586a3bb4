//! `shim exists`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault::Kind;

use crate::container::Store;

/// 0 or 1, without a word, as podman says it.
pub fn run(store: &Store, name: &str) -> Result<Exit> {
    match store.resolve(name) {
        Err(err) if Kind::of(&err) == Some(Kind::NotFound) => Ok(Exit::Failed),
        other => other.map(|_| Exit::Ok),
    }
}
