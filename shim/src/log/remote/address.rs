//! Where a remote log goes: `PROTOCOL://ADDRESS`.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::relay::{Relay, Trust};

/// A receiver, as the option names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    UnixDatagram(PathBuf),
    Udp(String),
    Tcp(String),
    Tls(String, Trust),
}

/// A receiver, looked up: the supervisor asks no name server while it serves.
#[derive(Debug, Clone)]
pub enum Target {
    Unix(PathBuf),
    UnixDatagram(PathBuf),
    Udp(SocketAddr),
    Tcp(Vec<SocketAddr>),
    Tls(Relay),
}

impl Address {
    /// Reads `text`, the value of `option`; `port` is for addresses without one.
    pub fn parse(option: &str, text: &str, port: u16) -> Result<Self> {
        let with_port = |host: &str| -> Result<String> {
            if host.is_empty() {
                fault!(Usage, "{option}: no host in {text}");
            }
            let bracketed = host.ends_with(']') || !host.contains(':');
            match host.rsplit_once(':') {
                _ if bracketed => Ok(format!("{host}:{port}")),
                Some((name, number)) if !name.is_empty() && number.parse::<u16>().is_ok() => {
                    Ok(host.to_owned())
                }
                _ => fault!(Usage, "{option}: invalid port in {text}"),
            }
        };
        let path = |path: &str| -> Result<PathBuf> {
            if !path.starts_with('/') {
                fault!(Usage, "{option}: {text}: a socket's path must be absolute");
            }
            Ok(path.into())
        };
        Ok(match text.split_once("://") {
            Some(("udp", host)) => Self::Udp(with_port(host)?),
            Some(("tcp", host)) => Self::Tcp(with_port(host)?),
            Some(("tcp+tls" | "tls", host)) => Self::Tls(with_port(host)?, Trust::default()),
            Some(("unix", name)) => Self::Unix(path(name)?),
            Some(("unixgram", name)) => Self::UnixDatagram(path(name)?),
            _ => fault!(Usage, "{option} should be in form proto://address, got {text}"),
        })
    }

    /// Looks the host up.
    pub fn resolve(&self) -> Result<Target> {
        let look = |host: &str| -> Result<Vec<SocketAddr>> {
            let found: Vec<SocketAddr> =
                host.to_socket_addrs().with_context(|| format!("look up {host}"))?.collect();
            anyhow::ensure!(!found.is_empty(), "look up {host}: no address");
            Ok(found)
        };
        Ok(match self {
            Self::Unix(path) => Target::Unix(path.clone()),
            Self::UnixDatagram(path) => Target::UnixDatagram(path.clone()),
            Self::Udp(host) => Target::Udp(look(host)?[0]),
            Self::Tcp(host) => Target::Tcp(look(host)?),
            Self::Tls(host, trust) => Target::Tls(Relay {
                addresses: look(host)?,
                name: host
                    .rsplit_once(':')
                    .map_or(host.as_str(), |(name, _)| name)
                    .trim_matches(['[', ']'])
                    .to_owned(),
                trust: trust.clone(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Trust};

    #[test]
    fn addresses() {
        let read = |text: &str| Address::parse("x-address", text, 514);
        assert_eq!(read("udp://1.2.3.4").unwrap(), Address::Udp("1.2.3.4:514".into()));
        assert_eq!(read("tcp://h:99").unwrap(), Address::Tcp("h:99".into()));
        assert_eq!(read("tcp://[::1]").unwrap(), Address::Tcp("[::1]:514".into()));
        assert_eq!(read("unix:///a").unwrap(), Address::Unix("/a".into()));
        for wrong in ["bogus", "udp://", "tcp://h:x", "unix://a", "ftp://h", "tcp://:"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read("tcp+tls://h:99").unwrap(), Address::Tls("h:99".into(), Trust::default()));
    }
}
