//! What is fuzzed: every reader of the runtime and of imgtool that gets bytes from outside, and what must hold of its answer whatever
//! the bytes are. A panic, a hang, or a broken promise is a finding.
//!
//! They are programs and no libraries, so their sources are compiled into this crate once more.

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

#[path = "../../imgtool/src"]
mod imgtool {
    pub mod reference;
    pub mod rootless;

    pub mod build {
        pub mod dockerfile;
        pub mod glob;
        pub mod ignore;
    }
    pub mod layer {
        pub mod apply;
        pub mod header;
        pub mod read;
        pub mod tree;
        pub mod whiteout;
        pub mod write;
    }
    pub mod store {
        pub mod config;
        pub mod digest;
        pub mod document;
        pub mod platform;
    }
}
use imgtool::*;

mod images;
mod machine;
mod readers;

pub use images::{dockerfile, layer, manifest, reference as name};
pub use readers::{channel, config, mountinfo, passwd, seccomp_profile as seccomp, state, words};
