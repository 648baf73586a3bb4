//! Talking to a supervisor: the messages, the connection, the terminal at our end.

pub mod backlog;
pub mod client;
pub mod keys;
pub mod local;
pub mod session;
pub mod terminal;
pub mod wire;
