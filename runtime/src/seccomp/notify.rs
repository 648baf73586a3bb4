//! Handing the notification descriptor to the agent behind `listenerPath`.
//!
//! One connection per filter: a JSON document (the specification's container process state) in one message, with the
//! descriptor as its ancillary data.

use std::io::IoSlice;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

/// The agent that answers a filter's notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its UNIX stream socket.
    pub path: PathBuf,
    /// Passed on to it as it stands in the profile.
    pub metadata: String,
}

impl Listener {
    /// Sends the descriptor of the filter that process `pid` has just installed. `state` is the container's state
    /// as `runtime state` prints it.
    ///
    /// # Errors
    /// The agent cannot be reached or does not take the message.
    pub fn send(&self, state: &Value, pid: i32, notifications: BorrowedFd<'_>) -> Result<()> {
        let what = || format!("hand the seccomp listener to {}", self.path.display());
        let mut document = json!({
            "ociVersion": state.get("ociVersion"),
            "fds": ["seccompFd"],
            "pid": pid,
            "state": state,
        });
        if !self.metadata.is_empty() {
            document["metadata"] = self.metadata.as_str().into();
        }
        let bytes = serde_json::to_vec(&document).with_context(what)?;
        let agent = UnixStream::connect(&self.path).with_context(what)?;
        let fds = [notifications.as_raw_fd()];
        let sent = sendmsg::<()>(
            agent.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            &[ControlMessage::ScmRights(&fds)],
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        let sent = sent.with_context(what)?;
        ensure!(sent == bytes.len(), "{}: only {sent} of {} bytes sent", what(), bytes.len());
        Ok(())
    }
}
