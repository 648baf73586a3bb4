//! A container's files are unmounted: the root file system and what is mounted beside it.
//!
//! Users hold a root file system by `shim mount`: `STATE/shim/.mounted.<id>.<n>` is there for each time, and goes with a
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

/// A file for each time: each comes and goes in one step.
fn file(store: &Store, id: &str, number: u32) -> PathBuf {
    store.live(&format!(".mounted.{id}.{number}"))
}

/// How often users have mounted it.
pub fn holds(store: &Store, id: &str) -> u32 {
    (1..).take_while(|&number| file(store, id, number).exists()).last().unwrap_or(0)
}

/// Makes it so often; the caller holds the container's lock, or removes the container.
pub fn hold(store: &Store, id: &str, times: u32) -> Result<()> {
    let now = holds(store, id);
    for number in (times + 1..=now).rev() {
        let path = file(store, id, number);
        match fs::remove_file(&path) {
            Err(err) if err.kind() != ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    for number in now + 1..=times {
        make_dir(&store.paths.state.join("shim"))?;
        let path = file(store, id, number);
        fs::File::create(&path).with_context(|| format!("make {}", path.display()))?;
    }
    Ok(())
}
