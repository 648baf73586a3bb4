//! Talking to registries: the distribution protocol over HTTP, with everything around it that users configure.

pub mod answer;
pub mod auth;
pub mod client;
pub mod credentials;
pub mod download;
pub mod hosts;
pub mod http;
pub mod proxy;
pub mod referrers;
pub mod repository;
pub mod short;
pub mod tls;
pub mod unfinished;
pub mod upload;
pub mod url;

pub use self::client::{Client, Flags};
