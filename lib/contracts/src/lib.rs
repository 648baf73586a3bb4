//! What the tools of the suite agree on: every shared file, every exit code, the shape of an error line.
//!
//! The tools never link each other. They meet in the files described here and in the exit codes of [`exit`].
//! `docs/contracts.md` lists each file with its owner, lock and lifetime; [`paths`] is the only place that joins
//! their names.

pub mod atomic;
pub mod base64;
pub mod bundle;
pub mod container;
pub mod daemon;
pub mod exit;
pub mod fault;
pub mod flag;
pub mod ids;
pub mod lock;
pub mod name;
pub mod network;
pub mod output;
pub mod passwd;
pub mod paths;
pub mod process;
pub mod report;
pub mod sandbox;
#[cfg(feature = "self-doc")]
pub mod self_doc;
pub mod tool;
