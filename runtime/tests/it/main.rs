//! The runtime on the real kernel, one file per verb. As root; without it each case says so and passes over itself.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod rig;

mod annotations;
mod clients;
mod console;
mod create;
mod delete;
mod descriptors;
mod destinations;
mod escape;
mod events;
mod exec;
mod faults;
mod features;
mod flags;
mod kill;
mod labels;
mod limits;
mod list;
mod mounts;
mod network;
mod notify;
mod pause;
mod proc;
mod process;
mod ps;
mod rootfs;
mod rootless;
mod run;
mod scheduling;
mod shared;
mod spec;
mod update;
