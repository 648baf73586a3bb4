//! A container's files are unmounted: the root file system and what is mounted beside it.
//!
//! Users hold a root file system by `shim mount`: how often stands in `STATE/shim/.mounted.<id>`, which goes with a
//! reboot as the mounts do.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Store, image_mounts, make_dir, shared_memory, subpaths};
use crate::tools;

/// `imgtool umount`, unless a user holds it, and the rest. Idempotent.
pub fn unmount(store: &Store, id: &str) -> Result<()> {
    let bundle = store.bundle(id);
    shared_memory::remove(&bundle)?;
    subpaths::remove(&bundle)?;
    image_mounts::unmount(&bundle)?;
    if holds(store, id) > 0 || !tools::is_mounted(&bundle) {
        return Ok(());
    }
    tools::run(tools::imgtool("umount").arg(&bundle)).map(drop)
}

fn file(store: &Store, id: &str) -> PathBuf {
    store.live(&format!(".mounted.{id}"))
}

/// How often users have mounted it.
pub fn holds(store: &Store, id: &str) -> u32 {
    let text = fs::read_to_string(file(store, id)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Writes down how often users have mounted it; the caller holds the container's lock, or removes the container.
pub fn hold(store: &Store, id: &str, times: u32) -> Result<()> {
    let path = file(store, id);
    if times > 0 {
        make_dir(&store.paths.state.join("shim"))?;
        return contracts::atomic::write_json_volatile(&path, &times, 0o600);
    }
    match fs::remove_file(&path) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
