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
        state.recover()?;
        Ok(state)
    }

    /// Frees the lock, does what only waits, and waits for the lock again. Whatever was read before is old then, and
    /// nothing may be pending.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn meanwhile<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let done = self.held.without(work)?;
        self.recover()?;
        Ok(done)
    }

    fn recover(&self) -> Result<()> {
        let Some(id) = state::read(&self.dir.join("pending"))? else { return Ok(()) };
        self.sweep_temporary()?;
        // Where it was killed before it wrote the id, nothing was begun.
        if contracts::name::check("id", id.trim()).is_ok() {
            down::undo(self, id.trim())
                .with_context(|| format!("undo what a killed command left of {id}"))?;
        }
        self.settled()
    }
}
