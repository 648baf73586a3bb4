//! A container goes, with everything it had.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::container::Container;
use contracts::lock::Lock;

use super::{Store, names};
use crate::{events, tools, volume};

/// Removes a container that does not run; the caller holds its lock. Its record goes last but for the directory, so
/// that a killed removal can be found and repeated.
pub fn everything(store: &Store, record: &Container, volumes: bool) -> Result<()> {
    names::release(store, &record.name, &record.id);
    tools::network_down(&record.id)?;
    files(store, &record.id)?;
    if volumes {
        for point in record.mounts.iter().filter(|point| point.anonymous) {
            // Still used by another container (--volumes-from): it stays.
            let _ = volume::remove(store, &point.name, Some(&record.id));
        }
    }
    events::container(store, record, "destroy", &[]);
    Ok(())
}

/// The bundle and the directories.
pub fn files(store: &Store, id: &str) -> Result<()> {
    let bundle = store.bundle(id);
    if bundle.exists() {
        tools::run(tools::imgtool("unbundle").arg(&bundle))?;
    }
    gone(&store.live(id))?;
    gone(&store.dir(id))
}

/// Whether `id` is what a killed `create` left: a directory without a record that nobody holds. It is removed.
pub fn debris(store: &Store, id: &str) -> Result<bool> {
    let dir = store.dir(id);
    if dir.join("container.json").exists() {
        return Ok(false);
    }
    let Some(_lock) = Lock::try_exclusive(&dir.join("lock"))? else { return Ok(false) };
    if dir.join("container.json").exists() {
        return Ok(false);
    }
    let _ = tools::network_down(id);
    files(store, id)?;
    Ok(true)
}

fn gone(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
