//! `runtime mounts`.

use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use serde_json::Value;

use super::Context;
use crate::cli::Mounts;
use crate::container::directory::Directory;
use crate::lifecycle::mounts;
use crate::spec::document::Mount;

/// Adds or removes mounts of a running container.
///
/// # Errors
/// A file that is no list of mounts; a mount that cannot be made or is not there.
pub fn run(context: &Context, flags: &Mounts) -> Result<Exit> {
    match flags {
        Mounts::Add(which) => mounts::add(&Directory::open(&context.root, &which.id)?, &read(&which.file)?),
        Mounts::Remove(which) => {
            mounts::remove(&Directory::open(&context.root, &which.id)?, &read(&which.file)?)
        }
    }?;
    Ok(Exit::Ok)
}

/// The list itself, or an object (a whole config.json) with it in `mounts`.
fn read(path: &Path) -> Result<Vec<Mount>> {
    let what = || format!("read {}", path.display());
    let text = std::fs::read(path).with_context(what)?;
    let list = match serde_json::from_slice::<Value>(&text) {
        Ok(Value::Object(mut object)) => object.remove("mounts").unwrap_or_default(),
        Ok(other) => other,
        Err(err) => fault!(Usage, "parse {}: {err}", path.display()),
    };
    match serde_json::from_value(list) {
        Ok(mounts) => Ok(mounts),
        Err(err) => fault!(Usage, "{}: not a list of mounts: {err}", path.display()),
    }
}
