//! Messages for `--log`: a file in one of the two formats that Podman, conmon and containerd read, the journal, or
//! syslog; and on stderr.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::libc;

use crate::cli::{LogFormat, LogLevel};

/// systemd's journal (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// syslog(3).
const SYSLOG: &str = "/dev/log";
/// `LOG_DAEMON`, as syslog(3) counts it.
const FACILITY: u32 = 3 << 3;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    sink: Option<Sink>,
    level: LogLevel,
}

enum Sink {
    File(File, LogFormat),
    /// The socket and our identifier.
    Journal(UnixDatagram, String),
    Syslog(UnixDatagram, String),
}

/// Opens the log, once, at the start of the program: `PATH`, `file:PATH`, `journald:IDENTIFIER` or
/// `syslog:IDENTIFIER`.
///
/// # Errors
/// It cannot be opened.
pub fn open(path: Option<&Path>, format: LogFormat, level: LogLevel) -> Result<()> {
    let sink = path.map(|path| open_sink(path, format)).transpose()?;
    let _ = LOG.set(Log { sink, level });
    Ok(())
}

/// Where messages go besides stderr.
pub fn descriptor() -> Option<BorrowedFd<'static>> {
    Some(match LOG.get()?.sink.as_ref()? {
        Sink::File(file, _) => file.as_fd(),
        Sink::Journal(socket, _) | Sink::Syslog(socket, _) => socket.as_fd(),
    })
}

fn open_sink(path: &Path, format: LogFormat) -> Result<Sink> {
    let (kind, rest) = path.to_str().and_then(|text| text.split_once(':')).unwrap_or(("", ""));
    if matches!(kind, "journald" | "syslog") && rest.is_empty() {
        fault!(Usage, "--log {kind}: needs an identifier, as {kind}:NAME");
    }
    match kind {
        "journald" => Ok(Sink::Journal(connect(JOURNAL)?, rest.to_owned())),
        "syslog" => Ok(Sink::Syslog(connect(SYSLOG)?, rest.to_owned())),
        "file" => open_file(Path::new(rest), format),
        _ => open_file(path, format),
    }
}

fn open_file(path: &Path, format: LogFormat) -> Result<Sink> {
    // Not blocking: the caller may have given us a FIFO that nobody reads yet.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path);
    Ok(Sink::File(file.with_context(|| format!("open log {}", path.display()))?, format))
}

fn connect(socket: &str) -> Result<UnixDatagram> {
    let context = || format!("open log {socket}");
    let ours = UnixDatagram::unbound().with_context(context)?;
    ours.connect(socket).with_context(context)?;
    // A daemon that hangs must not hang us.
    ours.set_nonblocking(true).with_context(context)?;
    Ok(ours)
}

/// What went wrong, in the log only: the line on stderr is printed at the end of `main`.
pub fn error(message: &str) {
    to_log(LogLevel::Error, message);
}

/// Something that the user should know, though it did not stop us.
pub fn warn(message: &str) {
    let wanted = LOG.get().is_none_or(|log| log.level >= LogLevel::Warning);
    if wanted && !to_log(LogLevel::Warning, message) {
        contracts::report::say(format_args!("runtime: warning: {message}"));
    }
}

/// Something for whoever looks for a fault (`--debug`).
pub fn debug(message: fmt::Arguments<'_>) {
    let wanted = LOG.get().is_some_and(|log| log.level >= LogLevel::Debug);
    if wanted && !to_log(LogLevel::Debug, &message.to_string()) {
        contracts::report::say(format_args!("runtime: {message}"));
    }
}

/// The level's name, and its number for syslog.
const fn level_name(level: LogLevel) -> (&'static str, u32) {
    match level {
        LogLevel::Error => ("error", 3),
        LogLevel::Warning => ("warning", 4),
        LogLevel::Info => ("info", 6),
        LogLevel::Debug => ("debug", 7),
    }
}

fn to_log(level: LogLevel, message: &str) -> bool {
    let Some(sink) = LOG.get().and_then(|log| log.sink.as_ref()) else { return false };
    let (level, priority) = level_name(level);
    match sink {
        Sink::File(file, format) => {
            let mut file = file;
            file.write_all(line(level, message, *format).as_bytes()).is_ok()
        }
        Sink::Journal(socket, identifier) => {
            socket.send(&journal_entry(priority, identifier, message)).is_ok()
        }
        Sink::Syslog(socket, identifier) => {
            let pid = std::process::id();
            socket.send(format!("<{}>{identifier}[{pid}]: {message}", FACILITY | priority).as_bytes()).is_ok()
        }
    }
}

fn line(level: &str, message: &str, format: LogFormat) -> String {
    let time = now();
    match format {
        LogFormat::Json => {
            format!("{}\n", serde_json::json!({ "level": level, "msg": message, "time": time }))
        }
        LogFormat::Text => {
            format!("time=\"{time}\" level={level} msg={}\n", serde_json::Value::from(message))
        }
    }
}

/// The message with its length, since it may have several lines.
fn journal_entry(priority: u32, identifier: &str, message: &str) -> Vec<u8> {
    let mut entry = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE\n").into_bytes();
    entry.extend((message.len() as u64).to_le_bytes());
    entry.extend_from_slice(message.as_bytes());
    entry.push(b'\n');
    entry
}

/// The time as RFC 3339 with nanoseconds.
#[must_use]
pub fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_a_length() {
        let entry = journal_entry(3, "c1", "a\nb");
        assert_eq!(entry, b"PRIORITY=3\nSYSLOG_IDENTIFIER=c1\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }

    #[test]
    fn sinks_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("log");
        assert!(open_sink(Path::new("journald:"), LogFormat::Text).is_err());
        let named = format!("file:{}", file.display());
        assert!(matches!(open_sink(Path::new(&named), LogFormat::Text), Ok(Sink::File(..))));
        assert!(file.exists());
        // A colon in a path is no sink.
        let odd = dir.path().join("a:b");
        assert!(matches!(open_sink(&odd, LogFormat::Text), Ok(Sink::File(..))));
    }
}
