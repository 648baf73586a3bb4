//! What a container's process may do: identity, capabilities, labels, limits, scheduling.

pub mod capabilities;
pub mod identity;
pub mod labels;
pub mod limits;
pub mod procfs;
pub mod scheduling;
