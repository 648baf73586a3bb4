//! A runtime at work: for whom, on what, with which files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::call::Caller;
use super::console::Console;
use super::stdio::Ends;

/// What a runtime was executed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Create,
    /// The container's start, or its restoration.
    Start,
    /// The start of an added process.
    Exec(String),
    Delete,
    Pause,
    Resume,
    Kill,
    Update,
    Checkpoint(String),
}

/// One of them.
pub struct Job {
    pub caller: Caller,
    pub container: String,
    pub work: Work,
    pub console: Option<Console>,
    pub ends: Ends,
    /// `FILE.log.json`, `FILE.pid`, `FILE.json`: what it reads and writes; gone afterwards.
    pub file: PathBuf,
}

impl Job {
    pub fn new(caller: Caller, container: &str, work: Work, file: PathBuf) -> Self {
        Self { caller, container: container.into(), work, console: None, ends: Ends::default(), file }
    }

    /// One of its files.
    pub fn path(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.file, suffix)
    }

    /// The pid that the runtime wrote.
    pub fn pid(&self, path: &Path) -> Result<i32> {
        let text = fs::read_to_string(path).context("read the pid that the runtime wrote")?;
        text.trim().parse().context("read the pid that the runtime wrote")
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

impl Drop for Job {
    fn drop(&mut self) {
        for suffix in [".log.json", ".pid", ".json"] {
            let _ = fs::remove_file(self.path(suffix));
        }
    }
}
