//! What the verbs do, from the runtime's side.

pub mod beside;
pub mod checkpoint;
pub mod create;
pub mod delete;
pub mod descriptors;
pub mod exec;
pub mod foreground;
pub mod kill;
pub mod made;
pub mod mounts;
pub mod notify_socket;
pub mod pid_file;
pub mod restore;
pub mod start;
