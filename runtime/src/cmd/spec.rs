//! `runtime spec`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;

use crate::cli;
use crate::spec::example;

/// Writes an example config.json, never over an existing one.
///
/// # Errors
/// There is one already.
pub fn run(flags: &cli::Spec) -> Result<Exit> {
    let path = flags.bundle.join(flags.file.as_deref().unwrap_or(Path::new("config.json")));
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {
            fault!(Exists, "file {} exists. Remove it first", path.display())
        }
        other => other.with_context(|| format!("make {}", path.display()))?,
    };
    let mut text = serde_json::to_vec_pretty(&example::document(flags.rootless))?;
    text.push(b'\n');
    file.write_all(&text).with_context(|| format!("write {}", path.display()))?;
    Ok(Exit::Ok)
}
