//! Files between places that do not trust each other.

pub mod archive;
pub mod owners;
pub mod tree;
