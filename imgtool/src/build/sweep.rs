//! What killed builds left: work directories whose lock is free, the container that ran in one, its network.

use std::fs::{self, File};
use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use contracts::paths::Paths;
use contracts::tool;

use super::network;
use super::work::{clear, root};

/// Removes what killed builds left.
///
/// # Errors
/// The work directory cannot be read.
pub fn sweep(paths: &Paths) -> Result<()> {
    let entries = match fs::read_dir(root(paths)) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err).context("read the work directories of builds"),
    };
    for entry in entries {
        let path = entry?.path();
        let Ok(dir) = File::open(&path) else { continue };
        if dir.try_lock().is_err() {
            continue;
        }
        let Some(id) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let gone = |mark: &str, remove: fn(&str) -> bool| !path.join(mark).exists() || remove(id);
        // Without the directory nobody would know of the container any more, nor of the network.
        if gone("config.json", delete_container) && gone(network::MARK, network::down) {
            clear(&path);
        }
    }
    Ok(())
}

/// Removes the container of a RUN that was killed, or whose runtime was; mostly there is none. Says whether it has gone.
pub fn delete_container(id: &str) -> bool {
    tool::succeeds("runtime", &["delete", "--force", id])
}
