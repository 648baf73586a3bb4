//! The journald driver: one datagram per line in the journal's native protocol, with docker's fields.

use anyhow::Result;

use super::address::Target;
use super::{Driver, Encoder as Any, Line, Link, Message, Patience, Source};
use crate::log::Stream;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Connects to this machine's journal.
pub fn open(source: &Source) -> Result<Driver> {
    let link = Link::open(Target::UnixDatagram(SOCKET.into()), Patience::default(), false)
        .map_err(|err| err.context("journald is not enabled on this host"))?;
    Ok(Driver { encoder: Any::Journald(Encoder::new(source)), link, limit: None, lossy: false })
}

/// Spells lines.
pub struct Encoder {
    /// The fields that every line has.
    fields: Vec<u8>,
    /// Lines so far, and since when they are counted.
    count: u64,
    epoch: String,
}

impl Encoder {
    fn new(source: &Source) -> Self {
        let mut fields = Vec::new();
        for (key, value) in [
            ("CONTAINER_ID", source.short()),
            ("CONTAINER_ID_FULL", &source.id),
            ("CONTAINER_NAME", &source.name),
            ("CONTAINER_TAG", &source.tag),
            ("IMAGE_NAME", &source.image),
            ("SYSLOG_IDENTIFIER", &source.tag),
        ] {
            field(&mut fields, key, value.as_bytes());
        }
        for (key, value) in &source.extra {
            let key = name(key);
            if !key.is_empty() {
                field(&mut fields, &key, value.as_bytes());
            }
        }
        Self { fields, count: 0, epoch: super::source::random_id() }
    }

    pub fn encode(&mut self, line: &Line<'_>, out: &mut Vec<Message>) {
        // Docker leaves empty lines out: the journal refuses an empty message.
        if line.text.is_empty() {
            return;
        }
        self.count += 1;
        let mut bytes = Vec::with_capacity(line.text.len() + self.fields.len() + 256);
        field(&mut bytes, "MESSAGE", line.text);
        field(&mut bytes, "PRIORITY", if line.stream == Stream::Stdout { b"6" } else { b"3" });
        field(&mut bytes, "SYSLOG_TIMESTAMP", format!("{:.9}", line.time).as_bytes());
        field(&mut bytes, "CONTAINER_LOG_EPOCH", self.epoch.as_bytes());
        field(&mut bytes, "CONTAINER_LOG_ORDINAL", self.count.to_string().as_bytes());
        if let Some(part) = &line.part {
            if !part.last {
                field(&mut bytes, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
            field(&mut bytes, "CONTAINER_PARTIAL_ID", part.id.as_bytes());
            field(&mut bytes, "CONTAINER_PARTIAL_ORDINAL", part.ordinal.to_string().as_bytes());
            field(&mut bytes, "CONTAINER_PARTIAL_LAST", part.last.to_string().as_bytes());
        }
        bytes.extend_from_slice(&self.fields);
        out.push(Message { bytes, chunk: None });
    }
}

/// `KEY=value`, or with a length where the value has line ends.
fn field(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A label's name as the journal allows it: capitals, digits and underscores, no underscore in front.
fn name(key: &str) -> String {
    let upper = key.to_ascii_uppercase();
    let fine: String = upper.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    fine.trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let mut out = Vec::new();
        field(&mut out, "A", b"x");
        field(&mut out, "B", b"x\ny");
        assert_eq!(out, b"A=x\nB\n\x03\0\0\0\0\0\0\0x\ny\n");
        assert_eq!(name("_com.example-a"), "COM_EXAMPLE_A");
    }
}
