//! The fluentd driver: the forward protocol, one message per line, with acknowledgement where asked for.

use std::time::Duration;

use anyhow::Result;
use contracts::container::LogConfig;
use contracts::fault;

use super::address::Address;
use super::{Driver, Encoder as Any, Line, Link, Message, Patience, Source, msgpack};
use crate::log::Stream;
use crate::log::values::{flag, number};
use crate::request::units::{duration, size};

/// The driver's options, checked.
pub struct Options {
    address: Address,
    later: bool,
    limit: Option<usize>,
    acknowledged: bool,
    sub_second: bool,
    patience: Patience,
}

impl Options {
    /// Reads `fluentd-*`.
    pub fn read(config: &LogConfig) -> Result<Self> {
        let option = |name: &str| config.config.get(name).map(String::as_str);
        let address = match option("fluentd-address") {
            None | Some("") => Address::Tcp("127.0.0.1:24224".into()),
            Some(text) if !text.contains("://") => {
                Address::parse("fluentd-address", &format!("tcp://{text}"), 24224)?
            }
            Some(text) => Address::parse("fluentd-address", text, 24224)?,
        };
        match &address {
            Address::Udp(_) | Address::UnixDatagram(_) => {
                fault!(Usage, "unsupported scheme in fluentd-address: use tcp, tls or unix")
            }
            _ => {}
        }
        let time = |name: &str| -> Result<Option<Duration>> {
            let Some(text) = option(name) else { return Ok(None) };
            match u64::try_from(duration(&format!("log-opt {name}"), text)?) {
                Ok(nanos) => Ok((nanos > 0).then(|| Duration::from_nanos(nanos))),
                Err(_) => fault!(Usage, "{name} must not be negative: {text}"),
            }
        };
        let renew = time("fluentd-async-reconnect-interval")?;
        if renew.is_some_and(|age| age < Duration::from_millis(100) || age > Duration::from_secs(10)) {
            fault!(Usage, "invalid fluentd-async-reconnect-interval: value must be between 100ms and 10s");
        }
        let limit = option("fluentd-buffer-limit")
            .map(|text| size("--log-opt fluentd-buffer-limit", text))
            .transpose()?;
        let attempts = number(config, "fluentd-max-retries")?;
        let patience = Patience {
            first_wait: time("fluentd-retry-wait")?.unwrap_or(Duration::from_secs(1)),
            attempts,
            write: time("fluentd-write-timeout")?,
            read: time("fluentd-read-timeout")?,
            renew,
        };
        let later = flag(config, "fluentd-async")? || flag(config, "fluentd-async-connect")?;
        Ok(Self {
            address,
            later,
            limit: limit.map(|bytes| usize::try_from(bytes).unwrap_or(0).max(1)),
            acknowledged: flag(config, "fluentd-request-ack")?,
            sub_second: flag(config, "fluentd-sub-second-precision")?,
            patience,
        })
    }

    /// Connects, at once or (`fluentd-async`) when it can.
    pub fn open(&self, source: &Source) -> Result<Driver> {
        let mut link = Link::open(self.address.resolve()?, self.patience.clone(), self.later)?;
        if self.acknowledged {
            link.acknowledged(msgpack::answers);
        }
        let encoder = Encoder {
            tag: source.tag.clone(),
            fixed: fixed(source),
            acknowledged: self.acknowledged,
            sub_second: self.sub_second,
        };
        let limit = self.limit.or(self.later.then_some(1 << 20));
        Ok(Driver { encoder: Any::Fluentd(encoder), link, limit, lossy: self.later })
    }
}

fn fixed(source: &Source) -> Vec<(String, String)> {
    let mut fixed = source.extra.clone();
    fixed.push(("container_id".into(), source.id.clone()));
    fixed.push(("container_name".into(), format!("/{}", source.name)));
    fixed
}

/// Spells lines.
pub struct Encoder {
    tag: String,
    /// What every record has.
    fixed: Vec<(String, String)>,
    acknowledged: bool,
    sub_second: bool,
}

impl Encoder {
    pub fn encode(&mut self, line: &Line<'_>, out: &mut Vec<Message>) {
        let stream: &[u8] = if line.stream == Stream::Stdout { b"stdout" } else { b"stderr" };
        let mut record: Vec<(&[u8], &[u8])> = vec![(b"source", stream), (b"log", line.text)];
        let ordinal = line.part.as_ref().map(|part| part.ordinal.to_string()).unwrap_or_default();
        if let Some(part) = &line.part {
            record.push((b"partial_message", b"true"));
            record.push((b"partial_id", part.id.as_bytes()));
            record.push((b"partial_ordinal", ordinal.as_bytes()));
            record.push((b"partial_last", if part.last { b"true" } else { b"false" }));
        }
        record.extend(self.fixed.iter().map(|(key, value)| (key.as_bytes(), value.as_bytes())));
        let chunk = self.acknowledged.then(super::source::random_id);
        let mut bytes = Vec::with_capacity(line.text.len() + 256);
        msgpack::array(&mut bytes, 4);
        msgpack::string(&mut bytes, self.tag.as_bytes());
        let seconds = u32::try_from(line.time.as_second()).unwrap_or_default();
        if self.sub_second {
            msgpack::event_time(
                &mut bytes,
                seconds,
                u32::try_from(line.time.subsec_nanosecond()).unwrap_or_default(),
            );
        } else {
            msgpack::unsigned(&mut bytes, u64::from(seconds));
        }
        msgpack::map(&mut bytes, u16::try_from(record.len()).unwrap_or_default());
        for (key, value) in record {
            msgpack::string(&mut bytes, key);
            msgpack::string(&mut bytes, value);
        }
        msgpack::map(&mut bytes, u16::from(chunk.is_some()));
        if let Some(chunk) = &chunk {
            msgpack::string(&mut bytes, b"chunk");
            msgpack::string(&mut bytes, chunk.as_bytes());
        }
        out.push(Message { bytes, chunk });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Options> {
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::read(&LogConfig { driver: "fluentd".into(), config })
    }

    #[test]
    fn options() {
        assert_eq!(read(&[]).unwrap().address, Address::Tcp("127.0.0.1:24224".into()));
        assert_eq!(read(&[("fluentd-address", "h:1")]).unwrap().address, Address::Tcp("h:1".into()));
        assert_eq!(read(&[("fluentd-address", "unix:///s")]).unwrap().address, Address::Unix("/s".into()));
        for wrong in [
            ("fluentd-address", "udp://h:1"),
            ("fluentd-address", "h:x"),
            ("fluentd-async", "maybe"),
            ("fluentd-async-reconnect-interval", "1ms"),
            ("fluentd-max-retries", "-1"),
            ("fluentd-buffer-limit", "x"),
        ] {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
    }
}
