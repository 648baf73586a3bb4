//! One file per verb.

pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod kill;
pub mod list;
pub mod mounts;
pub mod pause;
pub mod ps;
pub mod restore;
pub mod resume;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;

use std::path::PathBuf;

use crate::cli::{CgroupManager, Global, Rootless};

/// What all verbs need of the global flags.
#[derive(Debug)]
pub struct Context {
    /// `--root`.
    pub root: PathBuf,
    /// Whether the user named it.
    pub root_is_given: bool,
    /// `--rootless`.
    pub rootless: bool,
    /// Who makes cgroups.
    pub manager: CgroupManager,
}

impl Context {
    /// From the flags.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let root = global.root.clone().unwrap_or_else(|| contracts::paths::Paths::from_env().runtime());
        let rootless = match global.rootless {
            Rootless::Auto => contracts::paths::is_ordinary_user(),
            Rootless::True => true,
            Rootless::False => false,
        };
        let default = if global.systemd_cgroup { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
        Self {
            root,
            root_is_given: global.root.is_some(),
            rootless,
            manager: global.cgroup_manager.unwrap_or(default),
        }
    }
}
