//! The build cache: `STORE/build/cache/<key>` says which layer a step made. The key holds all that the step depends
//! on, by content: the layers below, the command or the files, the environment. Time and machine play no part.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::layer::pack::Packed;
use crate::store::Store;
use crate::store::digest::Digest;

/// What a step made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Made {
    /// Format of this document: 1.
    version: u32,
    /// The layer; `None` where nothing changed.
    pub layer: Option<Packed>,
    /// When, RFC 3339.
    pub created: String,
}

impl Made {
    /// A result of now.
    pub fn new(layer: Option<Packed>, created: String) -> Self {
        Self { version: 1, layer, created }
    }
}

/// The key of a step.
///
/// # Errors
/// None in practice.
pub fn key(inputs: &Value) -> Result<String> {
    Ok(Digest::of(&serde_json::to_vec(inputs).context("encode a cache key")?).hex().to_owned())
}

/// What the step of `key` made, if its layer is still here. The caller holds the blob before it asks.
pub fn find(store: &Store, key: &str) -> Option<Made> {
    // Anything unreadable is a miss: the step runs again.
    let made: Made = serde_json::from_slice(&fs::read(path(store, key)).ok()?).ok()?;
    let here =
        made.layer.as_ref().is_none_or(|layer| store.size_of(&layer.blob.digest) == Some(layer.blob.size));
    (made.version == 1 && here).then_some(made)
}

/// Remembers what the step of `key` made, and keeps its blob.
///
/// # Errors
/// No space.
pub fn remember(store: &Store, key: &str, made: &Made) -> Result<()> {
    if let Some(layer) = &made.layer {
        store.keep(&format!("build-{key}"), std::slice::from_ref(&layer.blob.digest))?;
    }
    let path = path(store, key);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    contracts::atomic::write_json(&path, made, 0o600)
}

/// Forgets what all steps made; a build that runs meanwhile just runs its steps again.
///
/// # Errors
/// A file cannot be removed.
pub fn forget_all(store: &Store) -> Result<()> {
    let dir = store.paths().store.join("build").join("cache");
    let forgotten = || format!("forget the build cache in {}", dir.display());
    let entries = match fs::read_dir(&dir) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.with_context(forgotten)?,
    };
    for entry in entries {
        let path = entry.with_context(forgotten)?.path();
        // A temporary file may be a running build's, which is about to rename it.
        if path.extension().is_some_and(|ending| ending == "tmp") {
            continue;
        }
        match fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => return Err(err).with_context(forgotten),
            _ => {}
        }
    }
    Ok(())
}

fn path(store: &Store, key: &str) -> PathBuf {
    store.paths().store.join("build").join("cache").join(key)
}
