//! `process`: the program, and under which identity and limits it runs. Also what `exec --process` reads, and what
//! the state file keeps for `exec`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::or_default;

/// `process`.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    /// Give it a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<bool>,
    /// Size of the terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Identity.
    #[serde(deserialize_with = "or_default")]
    pub user: User,
    /// Program and arguments.
    #[serde(deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// `NAME=value` strings.
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    /// Absolute working directory.
    pub cwd: PathBuf,
    /// Capability sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Resource limits.
    #[serde(deserialize_with = "or_default")]
    pub rlimits: Vec<Rlimit>,
    /// Set no_new_privs.
    #[serde(deserialize_with = "or_default")]
    pub no_new_privileges: bool,
    /// AppArmor profile.
    #[serde(deserialize_with = "or_default")]
    pub apparmor_profile: String,
    /// SELinux label.
    #[serde(deserialize_with = "or_default")]
    pub selinux_label: String,
    /// How likely the kernel kills it when memory runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// I/O priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// Scheduling policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// Processors of processes that `exec` adds.
    #[serde(rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity>,
}

/// `consoleSize`.
#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// `user`.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct User {
    /// User id in the container.
    pub uid: u32,
    /// Group id in the container.
    pub gid: u32,
    /// File mode creation mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Supplementary groups.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
    /// Stay in the caller's groups instead (`run.oci.keep_original_groups`).
    #[serde(rename = "bulkheadKeepGroups", skip_serializing_if = "std::ops::Not::not")]
    pub keep_groups: bool,
}

/// `capabilities`: names, which may be unknown to us.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Capabilities {
    /// The limit of what can ever be gained.
    #[serde(deserialize_with = "or_default")]
    pub bounding: Vec<String>,
    /// What is checked.
    #[serde(deserialize_with = "or_default")]
    pub effective: Vec<String>,
    /// What files may inherit.
    #[serde(deserialize_with = "or_default")]
    pub inheritable: Vec<String>,
    /// What may become effective.
    #[serde(deserialize_with = "or_default")]
    pub permitted: Vec<String>,
    /// What survives the execution of an ordinary file.
    #[serde(deserialize_with = "or_default")]
    pub ambient: Vec<String>,
}

impl Capabilities {
    /// Whether `name` is in any of the sets.
    #[must_use]
    pub fn any(&self, name: &str) -> bool {
        let sets = [&self.bounding, &self.effective, &self.inheritable, &self.permitted, &self.ambient];
        sets.iter().any(|set| set.iter().any(|one| one == name))
    }
}

/// One of `rlimits`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Rlimit {
    /// `RLIMIT_…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The ceiling.
    pub hard: u64,
    /// What is enforced.
    pub soft: u64,
}

/// `ioPriority`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct IoPriority {
    /// `IOPRIO_CLASS_…`.
    pub class: String,
    /// 0 (highest) to 7.
    #[serde(default)]
    pub priority: u8,
}

/// `scheduler`.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Scheduler {
    /// `SCHED_…`.
    pub policy: String,
    /// For the time-sharing policies.
    #[serde(default, deserialize_with = "or_default")]
    pub nice: i32,
    /// For the real-time policies.
    #[serde(default, deserialize_with = "or_default")]
    pub priority: i32,
    /// `SCHED_FLAG_…`.
    #[serde(default, deserialize_with = "or_default")]
    pub flags: Vec<String>,
    /// Deadline policy: nanoseconds.
    #[serde(default, deserialize_with = "or_default")]
    pub runtime: u64,
    /// Deadline policy: nanoseconds.
    #[serde(default, deserialize_with = "or_default")]
    pub deadline: u64,
    /// Deadline policy: nanoseconds.
    #[serde(default, deserialize_with = "or_default")]
    pub period: u64,
}

/// `execCPUAffinity`: lists such as `0-3,7`.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct ExecCpuAffinity {
    /// Until the process is in its cgroup.
    #[serde(deserialize_with = "or_default")]
    pub initial: String,
    /// From then on.
    #[serde(rename = "final", deserialize_with = "or_default")]
    pub last: String,
}
