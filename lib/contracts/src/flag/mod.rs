//! Values of flags that several tools take, spelled as docker spells them.

pub mod duration;
pub mod size;
pub mod ulimit;
