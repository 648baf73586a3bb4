//! Layers: reading and writing them as tar archives, applying them to directories, finding what changed.

pub mod apply;
pub mod changes;
pub mod compare;
pub mod diff;
pub mod extracted;
pub mod flat;
pub mod gzip;
mod header;
pub mod incoming;
pub mod owner;
pub mod pack;
pub mod read;
pub mod stream;
pub mod tree;
pub mod whiteout;
pub mod write;
