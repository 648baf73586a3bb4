//! What the runtime keeps of a container, `ROOT/<id>/`:
//!
//! - the directory itself, which is the lock (`flock(2)`): its making reserves the id;
//! - `state.json`, replaced in one step, and until the container is ready `creating.json`, written first without a
//!   process (so that a killed `create` can be cleaned up) and again with it;
//! - `seccomp.bpf`, the compiled system call filter, for `exec`;
//! - `start` and `answer`, the two FIFOs between a created container's first process and `runtime start`.

pub mod choice;
pub mod directory;
pub mod state;
pub mod status;
pub mod view;
