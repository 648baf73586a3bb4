//! The syslog driver: the formats of Unix, RFC 3164 and RFC 5424.

use anyhow::Result;
use contracts::container::LogConfig;
use contracts::fault;
use jiff::tz::TimeZone;

use super::address::{Address, Target};
use super::relay::Trust;
use super::{Driver, Encoder as Any, Line, Link, Message, Patience, Source};
use crate::log::Stream;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// As a local `/dev/log` wants it: no host.
    Unix,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

/// The driver's options, checked.
pub struct Options {
    /// `None` is this machine's own syslog.
    address: Option<Address>,
    facility: u8,
    format: Format,
}

impl Options {
    /// Reads `syslog-*`.
    pub fn read(config: &LogConfig) -> Result<Self> {
        let option = |name: &str| config.config.get(name).map(String::as_str);
        let mut address =
            option("syslog-address").map(|text| Address::parse("syslog-address", text, 514)).transpose()?;
        let trust = Trust::read(config)?;
        match &mut address {
            Some(Address::Tls(_, wanted)) => *wanted = trust,
            _ if trust != Trust::default() => {
                fault!(Usage, "log-opt syslog-tls-*: only with --log-opt syslog-address=tcp+tls://HOST")
            }
            _ => {}
        }
        let format = match option("syslog-format") {
            None | Some("") => Format::Unix,
            Some("rfc3164") => Format::Rfc3164,
            Some("rfc5424") => Format::Rfc5424,
            Some("rfc5424micro") => Format::Rfc5424Micro,
            Some(other) => fault!(Usage, "Invalid syslog format: {other}"),
        };
        Ok(Self { address, facility: facility(option("syslog-facility").unwrap_or("daemon"))?, format })
    }

    /// Connects.
    pub fn open(&self, source: &Source) -> Result<Driver> {
        let open = |target| Link::open(target, Patience::default(), false);
        let link = match &self.address {
            Some(address) => open(address.resolve()?)?,
            None => {
                let places = ["/dev/log", "/var/run/syslog", "/var/run/log"];
                let tried = places
                    .into_iter()
                    .flat_map(|path| [Target::UnixDatagram(path.into()), Target::Unix(path.into())]);
                let Some(link) = tried.map(open).find_map(Result::ok) else {
                    anyhow::bail!("Unix syslog delivery error");
                };
                link
            }
        };
        let encoder = Any::Syslog(Encoder {
            facility: self.facility,
            format: self.format,
            tag: source.tag.clone(),
            host: source.host.clone(),
            pid: std::process::id(),
        });
        Ok(Driver { encoder, link, limit: None, lossy: false })
    }
}

/// Spells lines.
pub struct Encoder {
    facility: u8,
    format: Format,
    tag: String,
    host: String,
    pid: u32,
}

impl Encoder {
    pub fn encode(&mut self, line: &Line<'_>, out: &mut Vec<Message>) {
        // Informational, or an error.
        let priority = self.facility * 8 + if line.stream == Stream::Stdout { 6 } else { 3 };
        let time = line.time.to_zoned(TimeZone::system());
        let (host, tag, pid) = (&self.host, &self.tag, self.pid);
        let head = match self.format {
            Format::Unix => format!("<{priority}>{} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S")),
            Format::Rfc3164 => {
                format!("<{priority}>{} {host} {tag}[{pid}]: ", time.strftime("%b %e %H:%M:%S"))
            }
            Format::Rfc5424 => {
                let time = time.strftime("%Y-%m-%dT%H:%M:%S%:z");
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
            Format::Rfc5424Micro => {
                let time = time.strftime("%Y-%m-%dT%H:%M:%S.%6f%:z");
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ")
            }
        };
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(line.text);
        bytes.push(b'\n');
        out.push(Message { bytes, chunk: None });
    }
}

fn facility(name: &str) -> Result<u8> {
    const NAMES: &[&str] = &[
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
        "", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];
    let number = name.parse::<u8>().ok().filter(|&number| number < 24);
    let found = NAMES.iter().position(|known| *known == name && !name.is_empty());
    match number.or(found.and_then(|at| u8::try_from(at).ok())) {
        Some(facility) => Ok(facility),
        None => fault!(Usage, "invalid syslog facility: {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: Format) -> String {
        let mut encoder = Encoder { facility: 3, format, tag: "t".into(), host: "h".into(), pid: 7 };
        let mut out = Vec::new();
        let line = Line { stream: Stream::Stderr, text: b"x", time: jiff::Timestamp::UNIX_EPOCH, part: None };
        encoder.encode(&line, &mut out);
        String::from_utf8(out.remove(0).bytes).unwrap()
    }

    #[test]
    fn formats() {
        assert!(line(Format::Unix).ends_with(" t[7]: x\n"));
        assert!(line(Format::Rfc3164).ends_with(" h t[7]: x\n") && line(Format::Rfc3164).starts_with("<27>"));
        assert!(
            line(Format::Rfc5424).starts_with("<27>1 19")
                && line(Format::Rfc5424).ends_with(" h t 7 t - x\n")
        );
        assert!(line(Format::Rfc5424Micro).contains(":00.000000"));
    }

    #[test]
    fn facilities() {
        let found = ["daemon", "local7", "5"].map(|name| facility(name).unwrap());
        assert_eq!(found, [3, 23, 5]);
        assert!(facility("x").is_err() && facility("").is_err());
    }
}
