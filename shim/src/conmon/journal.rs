//! The journald driver: one datagram per line, in the journal's native protocol.

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;

use anyhow::{Context as _, Result, ensure};

use super::cli::Options;
use crate::log::Stream;

const SOCKET: &str = "/run/systemd/journal/socket";
/// A line without an end is sent when it is this long.
const LONGEST: usize = 8192;

/// An open journal.
pub struct Journal {
    socket: UnixDatagram,
    /// The fields that every line has.
    fields: Vec<u8>,
    mark_partial: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Journal {
    /// Where no journal runs, lines go nowhere, as conmon's do.
    pub fn open(options: &Options) -> Result<Self> {
        ensure!(options.cuuid.len() > 12, "Container ID must be longer than 12 characters");
        let socket = UnixDatagram::unbound().context("open the journal")?;
        let short: String = options.cuuid.chars().take(12).collect();
        let identifier = [&options.log_tag, &options.name, &short];
        let identifier = identifier.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
        let mut fields = Vec::new();
        field(&mut fields, "CONTAINER_ID_FULL", options.cuuid.as_bytes());
        field(&mut fields, "CONTAINER_ID", short.as_bytes());
        field(&mut fields, "SYSLOG_IDENTIFIER", identifier.as_bytes());
        if !options.log_tag.is_empty() {
            field(&mut fields, "CONTAINER_TAG", options.log_tag.as_bytes());
        }
        if !options.name.is_empty() {
            field(&mut fields, "CONTAINER_NAME", options.name.as_bytes());
        }
        for label in &options.log_labels {
            let (key, value) = label.split_once('=').unwrap_or_default();
            ensure!(
                !key.is_empty() && label.matches('=').count() == 1,
                "Container labels must be in format LABEL=VALUE (no LABEL present in '{label}')"
            );
            ensure!(
                key.bytes().all(|c| matches!(c, b'A'..=b'Z' | b'0'..=b'9' | b'_')),
                "Container label names must contain only uppercase letters, numbers and underscore: '{key}'"
            );
            field(&mut fields, key, value.as_bytes());
        }
        let mark_partial = !options.no_container_partial_message;
        Ok(Self { socket, fields, mark_partial, stdout: Vec::new(), stderr: Vec::new() })
    }

    /// Sends every line that `bytes` completes.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let kept = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
            kept.extend_from_slice(piece);
            if piece.ends_with(b"\n") || kept.len() >= LONGEST {
                let line = std::mem::take(kept);
                self.send(stream, &line);
            }
        }
    }

    /// Sends the unfinished lines.
    pub fn flush(&mut self) {
        for (stream, line) in [
            (Stream::Stdout, std::mem::take(&mut self.stdout)),
            (Stream::Stderr, std::mem::take(&mut self.stderr)),
        ] {
            if !line.is_empty() {
                self.send(stream, &line);
            }
        }
    }

    fn send(&self, stream: Stream, line: &[u8]) {
        let (text, whole) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
        // `<N>` in front is the line's own priority, as systemd reads it.
        let (priority, text) = match text {
            [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (char::from(*digit), rest),
            _ => (if stream == Stream::Stdout { '6' } else { '3' }, text),
        };
        let mut message = Vec::with_capacity(text.len() + self.fields.len() + 64);
        field(&mut message, "MESSAGE", text);
        field(&mut message, "PRIORITY", priority.to_string().as_bytes());
        message.extend_from_slice(&self.fields);
        if !whole && self.mark_partial {
            field(&mut message, "CONTAINER_PARTIAL_MESSAGE", b"true");
        }
        let _ = self.socket.send_to(&message, SOCKET);
    }
}

/// `KEY=value`, or with a length where the value has line ends.
fn field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        let _ = out.write_all(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}
