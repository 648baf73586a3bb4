//! The gelf driver: GELF 1.1 over UDP (compressed, in chunks) or TCP (plain, each message ends in a zero byte).

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use contracts::container::LogConfig;
use contracts::fault;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value};

use super::address::Address;
use super::{Driver, Encoder as Any, Line, Link, Message, Patience, Source};
use crate::log::Stream;
use crate::log::values::number;

/// Bytes of a chunk, without its head of 12.
const CHUNK: usize = 1420 - 12;
/// More chunks than this no receiver takes together.
const MOST_CHUNKS: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zlib,
}

/// The driver's options, checked.
pub struct Options {
    address: Address,
    packing: Packing,
    level: u32,
    patience: Patience,
}

impl Options {
    /// Reads `gelf-*`.
    pub fn read(config: &LogConfig) -> Result<Self> {
        let option = |name: &str| config.config.get(name).map(String::as_str);
        let Some(text) = option("gelf-address") else {
            fault!(Usage, "gelf-address is a required parameter")
        };
        let address = match text.split_once("://") {
            Some(("udp" | "tcp", host)) if host.rsplit_once(':').is_some() => {
                Address::parse("gelf-address", text, 12201)?
            }
            Some(("udp" | "tcp", _)) => {
                fault!(Usage, "gelf: please provide gelf-address as proto://host:port")
            }
            Some((scheme, _)) => fault!(Usage, "gelf: endpoint needs to be TCP or UDP, not {scheme}"),
            None => fault!(Usage, "gelf: please provide gelf-address as proto://host:port"),
        };
        let tcp = matches!(address, Address::Tcp(_));
        for (name, with_tcp) in [
            ("gelf-compression-type", false),
            ("gelf-compression-level", false),
            ("gelf-tcp-max-reconnect", true),
            ("gelf-tcp-reconnect-delay", true),
        ] {
            if option(name).is_some() && tcp != with_tcp {
                fault!(Usage, "{name} is only supported with {}", if with_tcp { "TCP" } else { "UDP" });
            }
        }
        let packing = match option("gelf-compression-type") {
            None | Some("gzip") => Packing::Gzip,
            Some("zlib") => Packing::Zlib,
            Some("none") => Packing::None,
            Some(other) => fault!(Usage, "gelf: invalid compression type: {other}"),
        };
        let level = match option("gelf-compression-level").map(str::parse::<i32>) {
            None | Some(Ok(-1)) => 6,
            Some(Ok(level @ 0..=9)) => level.unsigned_abs(),
            Some(_) => fault!(Usage, "gelf: invalid value for gelf-compression-level: use -1 to 9"),
        };
        let delay = number(config, "gelf-tcp-reconnect-delay")?;
        let patience = Patience {
            attempts: number(config, "gelf-tcp-max-reconnect")?,
            first_wait: Duration::from_secs(u64::from(delay.unwrap_or(1))),
            ..Patience::default()
        };
        Ok(Self { address, packing: if tcp { Packing::None } else { packing }, level, patience })
    }

    /// Connects.
    pub fn open(&self, source: &Source) -> Result<Driver> {
        let tcp = matches!(self.address, Address::Tcp(_));
        let link = Link::open(self.address.resolve()?, self.patience.clone(), false)?;
        let (packing, level) = (self.packing, self.level);
        let encoder = Encoder { fixed: fixed(source), host: source.host.clone(), tcp, packing, level };
        Ok(Driver { encoder: Any::Gelf(encoder), link, limit: None, lossy: false })
    }
}

fn fixed(source: &Source) -> Map<String, Value> {
    let mut fixed = Map::new();
    let name = format!("/{}", source.name);
    for (key, value) in [
        ("_container_id", source.id.as_str()),
        ("_container_name", name.trim_start_matches('/')),
        ("_image_id", &source.image_id),
        ("_image_name", &source.image),
        ("_command", &source.command),
        ("_created", &source.created),
        ("_tag", &source.tag),
    ] {
        fixed.insert(key.into(), value.into());
    }
    for (key, value) in &source.extra {
        let key = if key.starts_with('_') { key.clone() } else { format!("_{key}") };
        fixed.insert(key, value.as_str().into());
    }
    fixed
}

/// Spells lines.
pub struct Encoder {
    fixed: Map<String, Value>,
    host: String,
    tcp: bool,
    packing: Packing,
    level: u32,
}

impl Encoder {
    pub fn encode(&mut self, line: &Line<'_>, out: &mut Vec<Message>) {
        // A GELF message must say something.
        if line.text.is_empty() {
            return;
        }
        let mut message = self.fixed.clone();
        #[allow(clippy::cast_precision_loss)] // milliseconds fit
        let time = line.time.as_millisecond() as f64 / 1000.0;
        message.insert("version".into(), "1.1".into());
        message.insert("host".into(), self.host.as_str().into());
        message.insert("short_message".into(), String::from_utf8_lossy(line.text).into());
        message.insert("timestamp".into(), time.into());
        message.insert("level".into(), if line.stream == Stream::Stdout { 6 } else { 3 }.into());
        if let Some(part) = &line.part {
            message.insert("_partial_id".into(), part.id.into());
            message.insert("_partial_ordinal".into(), part.ordinal.into());
            message.insert("_partial_last".into(), part.last.into());
        }
        let Ok(mut bytes) = serde_json::to_vec(&message) else { return };
        if self.tcp {
            bytes.push(0);
            out.push(Message { bytes, chunk: None });
        } else if let Ok(bytes) = self.pack(bytes) {
            chunks(bytes, out);
        }
    }

    fn pack(&self, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
        let level = Compression::new(self.level);
        match self.packing {
            Packing::None => Ok(bytes),
            Packing::Gzip => {
                let mut packed = GzEncoder::new(Vec::new(), level);
                packed.write_all(&bytes)?;
                packed.finish()
            }
            Packing::Zlib => {
                let mut packed = ZlibEncoder::new(Vec::new(), level);
                packed.write_all(&bytes)?;
                packed.finish()
            }
        }
    }
}

/// One datagram, or several with a head each: magic, the message's id, number, count.
fn chunks(bytes: Vec<u8>, out: &mut Vec<Message>) {
    if bytes.len() <= CHUNK {
        out.push(Message { bytes, chunk: None });
        return;
    }
    let count = bytes.len().div_ceil(CHUNK);
    let Ok(total) = u8::try_from(count) else { return };
    if count > MOST_CHUNKS {
        return;
    }
    let id = super::source::random_id();
    for (number, piece) in (0..total).zip(bytes.chunks(CHUNK)) {
        let mut bytes = vec![0x1e, 0x0f];
        bytes.extend_from_slice(&id.as_bytes()[..8]);
        bytes.extend_from_slice(&[number, total]);
        bytes.extend_from_slice(piece);
        out.push(Message { bytes, chunk: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_come_in_chunks() {
        let mut out = Vec::new();
        chunks(vec![b'x'; CHUNK], &mut out);
        assert_eq!(out.len(), 1);
        out.clear();
        chunks(vec![b'x'; CHUNK * 2 + 1], &mut out);
        let heads: Vec<&[u8]> = out.iter().map(|message| &message.bytes[10..12]).collect();
        assert_eq!(heads, [[0, 3], [1, 3], [2, 3]]);
        assert!(out.iter().all(|message| message.bytes.starts_with(&[0x1e, 0x0f])));
        assert_eq!(out[2].bytes.len(), 13);
    }

    #[test]
    fn options() {
        let read = |pairs: &[(&str, &str)]| {
            let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Options::read(&LogConfig { driver: "gelf".into(), config })
        };
        let udp = ("gelf-address", "udp://h:1");
        let tcp = ("gelf-address", "tcp://h:1");
        assert_eq!(read(&[udp]).unwrap().packing, Packing::Gzip);
        assert_eq!(read(&[tcp]).unwrap().packing, Packing::None);
        assert!(read(&[]).is_err() && read(&[("gelf-address", "http://h:1")]).is_err());
        assert!(read(&[tcp, ("gelf-compression-type", "gzip")]).is_err());
        assert!(read(&[udp, ("gelf-compression-level", "10")]).is_err());
    }
}
