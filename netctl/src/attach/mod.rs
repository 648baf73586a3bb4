//! Attachments: one container's network side, made by `up`, changed by `connect` and `disconnect`, undone by `down`.

pub mod claim;
pub mod down;
pub mod endpoint;
pub mod files;
pub mod leased;
pub mod member;
pub mod namespace;
mod open;
pub mod port;
pub mod record;
pub mod request;
pub mod up;
pub mod way_out;
