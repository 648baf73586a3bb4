//! A name is claimed by making its link, so two processes never both get it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::{Store, is_id, make_dir, remove};

/// Gives `name` to `id`.
pub fn name(store: &Store, name: &str, id: &str) -> Result<()> {
    let path = store.paths.names().join(name);
    make_dir(&store.paths.names())?;
    for _ in 0..2 {
        match symlink(id, &path) {
            Ok(()) => return Ok(()),
            Err(err) if err.kind() == ErrorKind::AlreadyExists => {}
            Err(err) => return Err(err).with_context(|| format!("claim the name {name}")),
        }
        let holder =
            fs::read_link(&path).unwrap_or_default().into_os_string().into_string().unwrap_or_default();
        if holder == id {
            return Ok(());
        }
        if store.dir(&holder).exists() && is_id(&holder) && !remove::debris(store, &holder)? {
            fault!(
                Exists,
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            );
        }
        // Left by a process that was killed between this link and the container's directory.
        let _ = fs::remove_file(&path);
    }
    fault!(Busy, "the name {name} is being taken by another process")
}
