//! How every command begins: with the lock, and with what a killed command left half-done undone.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::paths::Paths;

use super::down;
use crate::rootless;
use crate::state::{self, State};

impl State {
    /// Waits for the lock and undoes what a killed command left half-done.
    ///
    /// # Errors
    /// The directories cannot be made, or the left-over cannot be undone.
    pub fn open() -> Result<Self> {
        let paths = Paths::from_env();
        Self::open_at(paths.net(), paths.networks(), "bulkhead")
    }

    /// As [`Self::open`], in another place and with tables of another name: for the faces whose callers keep the
    /// networks themselves.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_at(dir: PathBuf, networks: PathBuf, table: &'static str) -> Result<Self> {
        let state = Self::lock(dir, networks, table)?;
        rootless::enter(&state)?;
        if let Some(id) = state::read(&state.dir.join("pending"))? {
            state.sweep_temporary()?;
            // Killed before it wrote the id: nothing was begun.
            if contracts::name::check("id", id.trim()).is_err() {
                state.settled()?;
                return Ok(state);
            }
            down::undo(&state, id.trim())
                .with_context(|| format!("undo what a killed command left of {id}"))?;
            state.settled()?;
        }
        Ok(state)
    }
}
