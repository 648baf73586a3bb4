//! Talking to the kernel's network configuration, without any program: messages, sockets, links, addresses, routes.
//!
//! A socket belongs to the network namespace in which it was opened, for ever: that is how one process configures
//! both the host's side and the container's.

pub mod link;
pub mod message;
pub mod route;
pub mod socket;
pub mod tunnel;
