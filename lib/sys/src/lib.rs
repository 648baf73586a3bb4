//! Every raw system call of the suite, one file per kernel area, and the only crate where `unsafe` is allowed.
//!
//! The wrappers take and return safe types (`BorrowedFd`, `OwnedFd`, `Path`) and `std::io::Result`; callers add
//! which object the call was about. Nothing here knows about containers. `vector` is no call, but as close to the machine.
#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod clone;
pub mod command;
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
mod copy;
pub mod directory;
#[cfg(all(target_arch = "x86_64", target_env = "musl"))]
mod entry;
pub mod exe_file;
pub mod heap;
pub mod inherited;
pub mod keyring;
pub mod last_calls;
pub mod limits;
pub mod link;
pub mod memory;
pub mod mount;
pub mod names;
pub mod namespace;
pub mod netlink;
pub mod overlay;
pub mod packet;
pub mod pass_fd;
pub mod path;
pub mod pidfd;
pub mod pipe;
pub mod pty;
pub mod retry;
pub mod sched;
pub mod seccomp;
pub mod seqpacket;
pub mod start;
pub mod vector;
pub mod xattr;
