//! A container's state as others see it: `runtime state`, `runtime list` and the stdin of hooks.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::state::State;
use super::status::Status;

/// The object that runc prints: the specification's state and a little more, in runc's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View<'a> {
    oci_version: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// The first process; 0 once it ended.
    pub pid: i32,
    status: String,
    /// The bundle's absolute path.
    pub bundle: &'a Path,
    rootfs: &'a Path,
    /// When, in RFC 3339.
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// Name of the user who created it; empty where the account is unknown.
    pub owner: String,
}

impl<'a> View<'a> {
    /// Looks at `state` in this `status`.
    #[must_use]
    pub fn new(state: &'a State, status: Status) -> Self {
        Self {
            oci_version: &state.oci_version,
            id: &state.id,
            pid: state.init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid),
            status: status.to_string(),
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: &state.created,
            annotations: &state.annotations,
            owner: String::new(),
        }
    }

    /// The same with the owner's name.
    #[must_use]
    pub fn with_owner(mut self, name: String) -> Self {
        self.owner = name;
        self
    }
}

/// What a hook reads.
#[must_use]
pub fn for_hook(state: &State, status: Status, pid: i32) -> Vec<u8> {
    let mut value = serde_json::json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": status.to_string(),
        "bundle": state.bundle,
    });
    if pid != 0 {
        value["pid"] = pid.into();
    }
    if !state.annotations.is_empty() {
        value["annotations"] = serde_json::json!(state.annotations);
    }
    value.to_string().into_bytes()
}
