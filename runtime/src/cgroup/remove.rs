//! Removing a container's directories, also those the container made below.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Location;

/// The kernel keeps a cgroup busy for a moment after its last process was reaped.
const PATIENCE: Duration = Duration::from_secs(3);

/// Removes all directories; those that are gone already are done.
///
/// # Errors
/// One is still in use after three seconds. The others are removed nevertheless.
pub fn remove(location: &Location) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut first = Ok(());
    for member in location.dirs.iter().chain(&location.systemd_v1) {
        // A container that is below its unit has all of it.
        let is_unit = |dir: &&Path| location.unit.as_ref().is_some_and(|unit| dir.ends_with(unit));
        let dir = member.path.ancestors().find(is_unit).unwrap_or(&member.path);
        let removed = remove_until(dir, end).with_context(|| format!("remove cgroup {}", dir.display()));
        if first.is_ok() {
            first = removed;
        }
    }
    first
}

fn remove_until(path: &Path, end: Instant) -> io::Result<()> {
    let mut pause = Duration::from_millis(1);
    loop {
        match remove_tree(path) {
            Err(err) if err.kind() == ErrorKind::ResourceBusy && Instant::now() < end => {}
            other => return other,
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        // Processes, or a cgroup below.
        Err(err) if err.kind() == ErrorKind::ResourceBusy => {}
        other => return other,
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Location {
    /// Removes the container's directories and all below them. Idempotent.
    ///
    /// # Errors
    /// One is still in use after three seconds.
    pub fn remove(&self) -> Result<()> {
        // systemd may have removed the directory itself, and only it can forget the unit.
        let stopped = self.unit.as_deref().map_or(Ok(()), super::systemd::stop);
        remove(self).and(stopped)
    }

    /// Removes what a creation left that was killed. A unit may be another container's, which the creation was about
    /// to be refused: it is stopped only where nothing runs in it. (systemd misses an end that comes just when the
    /// process is moved into its scope.)
    ///
    /// # Errors
    /// As [`Self::remove`].
    pub fn remove_unfinished(&self) -> Result<()> {
        match &self.unit {
            Some(unit) if !super::systemd::stop_where_empty(unit)? => Ok(()),
            _ => remove(self),
        }
    }
}
