//! state.json (creating.json until the container is ready): all that later commands need, so that none reads
//! config.json again (a change of which, as the specification says, has no effect once the container is created).

use std::collections::BTreeMap;
use std::path::PathBuf;

use contracts::process::Process;
use serde::{Deserialize, Serialize};

use crate::cgroup::Location;
use crate::intel_rdt::Group;
use crate::log;
use crate::namespace::Namespaces;
use crate::spec;
use crate::spec::document::{Document, Hooks};
use crate::spec::linux::{MemoryPolicy, Personality};

/// The file.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// Version of this format: 1.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// `ociVersion` of config.json.
    pub oci_version: String,
    /// The first process; `None` until it is made.
    pub init: Option<Process>,
    /// Whether the first process is still being set up, or was when `create` was killed: what the file's name says.
    #[serde(default, skip_serializing)]
    pub creating: bool,
    /// The bundle's absolute path.
    pub bundle: PathBuf,
    /// `--config`, where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// The root file system's absolute path.
    pub rootfs: PathBuf,
    /// When, in RFC 3339.
    pub created: String,
    /// Who, as a user id.
    pub owner: u32,
    /// Copied from config.json.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup.
    pub cgroup: Option<Location>,
    /// `CLONE_NEW…` flags of the namespaces that it does not share with the runtime.
    pub namespaces: i32,
    /// The id of the mount that is its root, where it has no mount namespace to be the root of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_root: Option<u64>,
    /// Its groups of Intel RDT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<Group>,
    /// Whether there is a system call filter, which `exec` must not do without.
    #[serde(default)]
    pub filtered: bool,
    /// `process` of config.json, the model for `exec`.
    pub process: spec::process::Process,
    /// `linux.personality` of config.json, for `exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// `linux.memoryPolicy` of config.json, for `exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// Hooks that are still to come.
    #[serde(default)]
    pub hooks: Hooks,
}

impl State {
    /// The state before anything is made: what removing it takes. The id and the paths are the caller's to fill in.
    #[must_use]
    pub fn of(document: &Document, namespaces: &Namespaces) -> Self {
        Self {
            version: 1,
            id: String::new(),
            oci_version: document.oci_version.clone(),
            init: None,
            creating: true,
            bundle: PathBuf::new(),
            config: None,
            rootfs: PathBuf::new(),
            created: log::now(),
            owner: nix::unistd::getuid().as_raw(),
            annotations: document.annotations.clone(),
            cgroup: None,
            namespaces: namespaces.all(),
            shared_root: None,
            intel_rdt: None,
            filtered: document.linux.seccomp.is_some(),
            process: spec::process::Process::default(),
            personality: None,
            memory_policy: None,
            hooks: Hooks::default(),
        }
    }

    /// Adds what later commands need of a container that has a process.
    pub fn complete(&mut self, document: &Document, init: Process) {
        self.init = Some(init);
        self.process = document.process.clone().unwrap_or_default();
        self.personality = document.linux.personality.clone();
        self.memory_policy = document.linux.memory_policy.clone();
        self.hooks = document.hooks.clone();
    }
}
