//! Containers and their processes as the shim knows them.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::call::Caller;
use super::proto::{Mount, Timestamp};
use super::runtime::Runtime;
use super::status::Status;
use super::stdio::Wanted;
use crate::cgroup::Cgroup;

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The runtime makes it; nobody is told of it yet.
    Creating,
    Created,
    /// The runtime starts it.
    Starting,
    Running,
    Stopped,
    /// The runtime deletes it.
    Deleting,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// 128+n for a signal.
    pub code: u32,
    pub at: Timestamp,
}

/// A container's first process, or one that was added.
pub struct Process {
    pub state: State,
    /// 0 before there is one.
    pub pid: i32,
    pub wanted: Wanted,
    pub exit: Option<Exit>,
    /// An end that must not be told before the start has been.
    pub held: Option<Exit>,
    /// Who waits for the end.
    pub waiters: Vec<Caller>,
    pub console: Option<OwnedFd>,
    /// Keeps stdin open until `CloseIO`.
    pub stdin: Option<File>,
    /// Tokens of the output being moved.
    pub pumps: Vec<u64>,
    /// The token of stdin.
    pub feed: Option<u64>,
    /// What an added process is to run: an OCI process as JSON.
    pub spec: Vec<u8>,
}

impl Process {
    pub fn new(state: State, wanted: Wanted) -> Self {
        Self {
            state,
            pid: 0,
            wanted,
            exit: None,
            held: None,
            waiters: Vec::new(),
            console: None,
            stdin: None,
            pumps: Vec::new(),
            feed: None,
            spec: Vec::new(),
        }
    }

    /// Whether the kernel still has it.
    pub fn is_alive(&self) -> bool {
        self.pid > 0 && self.exit.is_none() && self.held.is_none()
    }

    /// The pid as messages carry it.
    pub fn pid(&self) -> u32 {
        u32::try_from(self.pid).unwrap_or(0)
    }
}

/// The images that a container is restored from.
pub struct Checkpoint {
    pub path: PathBuf,
    pub parent: String,
}

pub struct Container {
    pub bundle: PathBuf,
    /// What its event is going to name.
    pub mounts: Vec<Mount>,
    pub runtime: Runtime,
    pub init: Process,
    pub execs: BTreeMap<String, Process>,
    pub cgroup: Option<Cgroup>,
    pub paused: bool,
    /// Whether its processes die with the first one by themselves.
    pub own_pids: bool,
    pub checkpoint: Option<Checkpoint>,
    /// Its end, which must be the last one of its processes' that is told.
    pub last: Option<Exit>,
}

impl Container {
    pub fn process(&mut self, id: &str, exec: &str) -> Result<&mut Process> {
        if exec.is_empty() {
            return Ok(&mut self.init);
        }
        self.execs.get_mut(exec).ok_or_else(|| {
            Status::not_found(format!("process {exec} of container {id}: process does not exist: not found"))
        })
    }

    /// Whether one of the added processes lives or is about to.
    pub fn has_execs(&self) -> bool {
        self.execs.values().any(|exec| exec.is_alive() || exec.state == State::Starting)
    }

    pub fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }
}

/// Whether a bundle's container gets a pid namespace of its own.
pub fn has_own_pids(bundle: &Path) -> Result<bool> {
    #[derive(Deserialize)]
    struct Spec {
        #[serde(default)]
        linux: Option<Linux>,
    }
    #[derive(Deserialize)]
    struct Linux {
        #[serde(default)]
        namespaces: Vec<Namespace>,
    }
    #[derive(Deserialize)]
    struct Namespace {
        r#type: String,
        #[serde(default)]
        path: String,
    }
    let file = bundle.join("config.json");
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let spec: Spec = serde_json::from_slice(&bytes).with_context(|| format!("read {}", file.display()))?;
    let namespaces = spec.linux.map(|linux| linux.namespaces).unwrap_or_default();
    Ok(namespaces.iter().any(|namespace| namespace.r#type == "pid" && namespace.path.is_empty()))
}
