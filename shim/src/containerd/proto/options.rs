//! `containerd.runc.v1`: the options of runc's shim, which users' configurations speak; ours are the same.

use prost::Message;
use serde::{Deserialize, Serialize};

/// What a container's runtime is to be, and how it is called. `options.json` in the bundle keeps it for `delete`.
#[derive(Clone, PartialEq, Eq, Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    #[prost(bool, tag = "1")]
    #[serde(alias = "NoPivotRoot")]
    pub no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    #[serde(alias = "NoNewKeyring")]
    pub no_new_keyring: bool,
    #[prost(string, tag = "3")]
    #[serde(alias = "ShimCgroup")]
    pub shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    #[serde(alias = "IoUid")]
    pub io_uid: u32,
    #[prost(uint32, tag = "5")]
    #[serde(alias = "IoGid")]
    pub io_gid: u32,
    #[prost(string, tag = "6")]
    #[serde(alias = "BinaryName")]
    pub binary_name: String,
    #[prost(string, tag = "7")]
    #[serde(alias = "Root")]
    pub root: String,
    #[prost(bool, tag = "9")]
    #[serde(alias = "SystemdCgroup")]
    pub systemd_cgroup: bool,
    #[prost(string, tag = "10")]
    #[serde(alias = "CriuImagePath")]
    pub criu_image_path: String,
    #[prost(string, tag = "11")]
    #[serde(alias = "CriuWorkPath")]
    pub criu_work_path: String,
}

/// How a checkpoint is made.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CheckpointOptions {
    #[prost(bool, tag = "1")]
    pub exit: bool,
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    #[prost(string, tag = "8")]
    pub image_path: String,
    #[prost(string, tag = "9")]
    pub work_path: String,
    #[prost(string, tag = "10")]
    pub parent_path: String,
}

/// What `Pids` says of an exec'd process.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProcessDetails {
    #[prost(string, tag = "1")]
    pub exec_id: String,
}
