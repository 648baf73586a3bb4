//! The pod's sandbox, as far as there is one.

use super::call::Caller;
use super::proto::Timestamp;

/// The pod, where a client made one.
#[derive(Default)]
pub struct Sandbox {
    pub id: String,
    pub created: Option<Timestamp>,
    pub started: bool,
    pub stopped: Option<Timestamp>,
    pub waiters: Vec<Caller>,
}

impl Sandbox {
    /// Whether the shim has to stay for it.
    pub fn is_running(&self) -> bool {
        self.created.is_some() && self.stopped.is_none()
    }
}
