//! The messages on a supervisor's socket: one kind byte, then the payload.

use serde::{Deserialize, Serialize};

/// Client → supervisor: a [`Request`] as JSON, once, first.
pub const REQUEST: u8 = b'?';
/// Client → supervisor: bytes for the payload's stdin.
pub const STDIN: u8 = b'0';
/// Client → supervisor: no more stdin.
pub const CLOSE: u8 = b'c';
/// Client → supervisor: rows and columns, two little-endian u16.
pub const SIZE: u8 = b'w';
/// Client → supervisor: a signal number to pass on.
pub const SIGNAL: u8 = b's';
/// Supervisor → client: what the payload wrote to stdout, or to its terminal.
pub const STDOUT: u8 = b'1';
/// Supervisor → client: what the payload wrote to stderr.
pub const STDERR: u8 = b'2';
/// Supervisor → client: a [`Reply`] as JSON.
pub const REPLY: u8 = b'!';
/// Supervisor → client: an [`Exit`] as JSON; the last message.
pub const EXIT: u8 = b'x';

/// Data bytes per message.
pub const CHUNK: usize = 32 << 10;

/// What a client asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Streams until the payload ends.
    Attach {
        /// Whether stdin will be sent.
        stdin: bool,
    },
    /// Let the program begin that `init` made ready.
    Start,
    /// Send a signal to the payload.
    Signal {
        /// Its number.
        number: i32,
    },
    /// Signal, wait, SIGKILL; the reply comes when the container is stopped.
    Stop {
        /// The first signal.
        signal: i32,
        /// Seconds before SIGKILL; negative is never.
        timeout: i64,
    },
    /// Nothing; the exit comes when the payload ends.
    Wait,
    /// As long as this connection stands, the payload's end is a checkpoint's; the exit comes, too.
    Checkpoint,
    /// The container was frozen or thawed.
    Paused(bool),
    /// The record changed.
    Reload,
    /// Run the health check now.
    Health,
}

/// Whether a request worked.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Why not.
    pub error: Option<String>,
}

/// How the payload ended.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell sees it.
    pub code: i32,
}
