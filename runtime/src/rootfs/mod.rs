//! The container's file system: its root, what is mounted over it, its devices, what is hidden of it.
//!
//! The tree is put together on descriptors below the root's own descriptor, while the host is still `/`; no path of
//! the container is ever walked by name from the host's root (CVE-2021-30465, CVE-2024-45310, CVE-2026-41579).

pub mod cgroupfs;
pub mod console;
pub mod copy_up;
pub mod destination;
pub mod devices;
pub mod idmap;
pub mod label;
pub mod mount;
pub mod options;
pub mod pivot;
pub mod propagation;
pub mod protect;
pub mod ready;
pub mod shared;
