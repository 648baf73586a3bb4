//! Where runtimes are known to differ from a case, and why that is accepted.
//!
//! A case that fails on runc or crun and is not listed here is a bug of the case. Ours has no entries.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::tool::Tool;

/// Runtime (first word of `--version`), case, explanation. Seen with runc 1.1.5 and 1.3.6, crun 1.8.1 and 1.28;
/// each entry holds for at least one of them.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("runc", "process/rlimit-twice", "runc 1.1 takes a rlimit listed twice"),
    ("runc", "process/io-priority", "ioPriority came with runc 1.2"),
    ("runc", "process/scheduler", "scheduler came with runc 1.2"),
    ("runc", "namespaces/time-offsets", "time namespaces came with runc 1.2"),
    ("runc", "hostname/domain", "domainname came with runc 1.2"),
    ("runc", "personality/linux32", "personality came with runc 1.2"),
    (
        "runc",
        "hooks/state",
        "runc up to 1.4 runs poststart hooks at the end of create, with the status created",
    ),
    ("runc", "hooks/poststart", "runc up to 1.4 runs poststart hooks at the end of create"),
    ("runc", "exec/user-numbers", "runc 1.1 takes a uid beyond 32 bits"),
    ("runc", "evil/config-broken", "runc 1.1 panics on a config.json that is null"),
    ("runc", "evil/config-version", "runc 1.1 takes an empty ociVersion"),
    ("runc", "evil/dev-is-a-symlink", "CVE-2026-41579"),
    ("runc", "race/mount-destination-is-exchanged", "runc 1.1: CVE-2024-45310"),
    ("runc", "race/null-is-exchanged", "runc 1.1: CVE-2025-31133"),
    ("crun", "process/args-not-executable", "crun 1.8 does not name the program it cannot execute"),
    ("crun", "process/cwd-relative", "crun takes a relative cwd"),
    ("crun", "process/rlimit-twice", "crun 1.8 takes a rlimit listed twice"),
    ("crun", "process/io-priority", "ioPriority came with crun 1.8.3"),
    ("crun", "process/scheduler", "scheduler came with crun 1.8.5"),
    ("crun", "mounts/propagation", "crun 1.8 makes the mounts it was asked to share private"),
    ("crun", "namespaces/duplicate", "crun takes a namespace listed twice"),
    ("crun", "namespaces/time-offsets", "crun 1.8 fails to write the offsets on this kernel"),
    ("crun", "devices/unknown-type", "crun takes every type it does not know for a file"),
    ("crun", "cgroups/pids-unlimited", "crun 1.8 writes -1 to pids.max"),
    ("crun", "hooks/state", "crun tells createRuntime hooks the status created"),
    ("crun", "hooks/relative-path", "crun takes a relative path of a hook"),
    ("crun", "lifecycle/kill-bad-signal", "crun takes an unknown signal name for signal 0"),
    ("crun", "exec/env", "crun 1.8 drops the container's environment for exec --env"),
    ("crun", "exec/user-numbers", "CVE-2026-30892 and its like: numbers are not checked"),
    ("runc", "capabilities/absent", "runc 1.3 keeps the caller's bounding set where capabilities are absent"),
    ("runc", "hooks/poststop-failure-is-ignored", "runc 1.3 lets a failed poststop hook fail delete"),
    ("crun", "interface/log-json", "crun 1.28 writes each JSON record over several lines"),
    ("crun", "evil/config-version", "crun takes an empty ociVersion"),
    ("crun", "interface/features", "features came with crun 1.8.6"),
    ("crun", "evil/config-wrong-types", "crun ignores some values of the wrong type"),
    ("crun", "evil/ids", "crun 1.8 takes an absolute path as an id"),
    ("crun", "evil/dev-is-a-symlink", "CVE-2026-47766"),
    ("crun", "evil/killed-in-create", "crun 1.8 killed in create leaves its process once in about 8 sweeps"),
    ("runc", "unusual/seccomp-flags", "runc 1.1 knows no seccomp flags"),
    ("crun", "options/nosymfollow", "crun passes nosymfollow on to the file system"),
    ("crun", "options/later-wins", "crun leaves a tmpfs read-only that was asked to be ro and then rw"),
    ("crun", "refusals/exec-directory", "crun 1.8 does not name the program it cannot execute"),
];

/// Which runtime a tool is: the first word it says of itself.
///
/// # Errors
/// It cannot be started.
pub fn kind(tool: &Tool) -> Result<String> {
    let version = Command::new(&tool.path).arg("--version").output();
    let version = version.with_context(|| format!("start {}", tool.path.display()))?;
    let text = String::from_utf8_lossy(&version.stdout);
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Why `case` is known to fail with that runtime.
#[must_use]
pub fn difference(kind: &str, case: &str) -> Option<&'static str> {
    DIFFERENCES.iter().find(|(tool, name, _)| *tool == kind && *name == case).map(|&(.., why)| why)
}
