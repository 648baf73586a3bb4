//! The container's side: what a new process does between `clone3(2)` and `execve(2)`.
//!
//! It has a copy of the runtime's memory, so nothing is handed over; the two speak over [`channel`].

pub mod channel;
pub mod create;
pub mod exec;
pub mod program;
pub mod steps;
pub mod wait;
