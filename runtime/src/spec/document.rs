//! The document's top level: root, mounts, hooks (config.md of the specification).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::linux::{IdMapping, Linux};
use super::or_default;
use super::process::Process;

/// config.json.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// The version of the specification that it was written for.
    #[serde(default, deserialize_with = "or_default")]
    pub oci_version: String,
    /// The root file system.
    pub root: Option<Root>,
    /// What is mounted over it, in this order.
    #[serde(default, deserialize_with = "or_default")]
    pub mounts: Vec<Mount>,
    /// The container's program.
    pub process: Option<Process>,
    /// Host name in a UTS namespace.
    #[serde(default, deserialize_with = "or_default")]
    pub hostname: String,
    /// NIS domain name in a UTS namespace.
    #[serde(default, deserialize_with = "or_default")]
    pub domainname: String,
    /// Programs to run at points of the lifecycle.
    #[serde(default, deserialize_with = "or_default")]
    pub hooks: Hooks,
    /// The caller's own labels.
    #[serde(default, deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    /// What is particular to Linux.
    #[serde(default, deserialize_with = "or_default")]
    pub linux: Linux,
}

/// `root`.
#[derive(Debug, Deserialize)]
pub struct Root {
    /// Absolute, or relative to the bundle.
    pub path: PathBuf,
    /// Mount it read-only.
    #[serde(default)]
    pub readonly: bool,
}

/// One of `mounts`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Path in the container.
    pub destination: PathBuf,
    /// File system type; empty or `none` or `bind` for bind mounts.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// Device, name or path; a relative path is relative to the bundle.
    #[serde(default, deserialize_with = "or_default")]
    pub source: PathBuf,
    /// As in fstab, and more.
    #[serde(default, deserialize_with = "or_default")]
    pub options: Vec<String>,
    /// Ids shifted on this mount.
    #[serde(default, deserialize_with = "or_default")]
    pub uid_mappings: Vec<IdMapping>,
    /// Ids shifted on this mount.
    #[serde(default, deserialize_with = "or_default")]
    pub gid_mappings: Vec<IdMapping>,
}

/// `hooks`.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated: as `createRuntime`, and before it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// In the runtime's namespaces, after the container's exist, before `pivot_root`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// In the container's namespaces, before `pivot_root`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// In the container, just before its program.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// In the runtime's namespaces, after the program started.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// In the runtime's namespaces, after the container was deleted.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One hook.
#[derive(Debug, Default, Clone, Deserialize, Serialize)]
pub struct Hook {
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Its arguments, the first being its name.
    #[serde(default, deserialize_with = "or_default")]
    pub args: Vec<String>,
    /// Its whole environment; where there is none, see [`Environment`](crate::hooks::Environment).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Seconds until it is killed.
    #[serde(default)]
    pub timeout: Option<i64>,
}
