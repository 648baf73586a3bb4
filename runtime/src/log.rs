//! Messages in the file of `--log`, in the two formats that Podman, conmon and containerd read, and on stderr.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use nix::libc;

use crate::cli::LogFormat;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    file: Option<(File, LogFormat)>,
    debug: bool,
}

/// Opens the log file, once, at the start of the program.
///
/// # Errors
/// It cannot be opened.
pub fn open(path: Option<&Path>, format: LogFormat, debug: bool) -> Result<()> {
    let file = match path {
        None => None,
        Some(path) => {
            // Not blocking: the caller may have given us a FIFO that nobody reads yet.
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let file =
                OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path);
            Some((file.with_context(|| format!("open log {}", path.display()))?, format))
        }
    };
    let _ = LOG.set(Log { file, debug });
    Ok(())
}

/// What went wrong, in the file only: the line on stderr is printed at the end of `main`.
pub fn error(message: &str) {
    to_file("error", message);
}

/// Something that the user should know, though it did not stop us.
pub fn warn(message: &str) {
    if !to_file("warning", message) {
        let _ = writeln!(std::io::stderr(), "runtime: warning: {message}");
    }
}

/// Something for whoever looks for a fault (`--debug`).
pub fn debug(message: &str) {
    if LOG.get().is_some_and(|log| log.debug) && !to_file("debug", message) {
        let _ = writeln!(std::io::stderr(), "runtime: {message}");
    }
}

fn to_file(level: &str, message: &str) -> bool {
    let Some((file, format)) = LOG.get().and_then(|log| log.file.as_ref()) else { return false };
    let time = now();
    let line = match format {
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": level, "msg": message, "time": time }))
        }
        LogFormat::Text => {
            format!("time=\"{time}\" level={level} msg={}\n", serde_json::Value::from(message))
        }
    };
    let mut file = file;
    file.write_all(line.as_bytes()).is_ok()
}

/// The time as RFC 3339 with nanoseconds.
#[must_use]
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}
