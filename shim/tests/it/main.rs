//! `shim` as its users meet it, on the real kernel with the suite's real tools. Needs root.

#![allow(clippy::unwrap_used)]

mod attach;
mod conmon;
mod conmon_runtime;
mod containerd;
mod containerd_start;
mod cp;
mod crash;
mod create;
mod diff;
mod events;
mod exec;
mod health;
mod inspect;
mod lifecycle;
mod log_options;
mod logs;
mod mounts;
mod network;
mod passthrough;
mod pause;
mod podman_flags;
mod podman_verbs;
mod ps;
mod remote_logs;
mod resources;
mod restart;
mod rig;
mod run;
mod start;
mod terminal;
mod userns;
mod volume;
