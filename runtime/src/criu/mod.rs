//! Checkpoint and restore through CRIU: its service (`criu swrk`), one request for each command, spoken to over a
//! socket in the protocol of its `rpc.proto`.
//!
//! What belongs to the host and not to the image of the processes is named at the dump and handed in again at the
//! restore: bind mounts, masks, joined namespaces, standard input and output ([`external`]).

pub mod external;
pub mod message;
pub mod options;
pub mod service;
