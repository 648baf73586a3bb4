//! What is fuzzed: every reader of the runtime that gets bytes from outside, and what must hold of its answer whatever
//! the bytes are. A panic, a hang, or a broken promise is a finding.
//!
//! The runtime is a program and no library, so its sources are compiled into this crate once more.

#![allow(dead_code, unused_imports, unused_crate_dependencies)]

#[path = "../../runtime/src"]
mod runtime {
    pub mod cgroup;
    pub mod cli;
    pub mod cmd;
    pub mod console;
    pub mod container;
    pub mod criu;
    pub mod hooks;
    pub mod init;
    pub mod intel_rdt;
    pub mod lifecycle;
    pub mod log;
    pub mod namespace;
    pub mod own_exe;
    pub mod rootfs;
    pub mod seccomp;
    pub mod security;
    pub mod spec;
}
use runtime::*;

mod machine;
mod readers;

pub use readers::{channel, config, mountinfo, passwd, seccomp_profile as seccomp, state, words};
