//! The syslog driver: RFC 3164 or RFC 5424 to a datagram, stream or TCP socket.

use std::fs::File;
use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use anyhow::{Context as _, Result};
use contracts::container::{Container, LogConfig};
use contracts::fault;
use jiff::Zoned;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::lines::Splitter;
use super::{Stream, tag};

/// Where to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Local,
    Unix(String),
    UnixDatagram(String),
    Udp(String),
    Tcp(String),
}

impl Address {
    /// Of `syslog-address`.
    pub fn read(config: &LogConfig) -> Result<Self> {
        let Some(text) = config.config.get("syslog-address") else { return Ok(Self::Local) };
        let with_port = |host: &str| {
            if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
                host.to_owned()
            } else {
                format!("{host}:514")
            }
        };
        match text.split_once("://") {
            Some(("udp", host)) => Ok(Self::Udp(with_port(host))),
            Some(("tcp", host)) => Ok(Self::Tcp(with_port(host))),
            Some(("unix", path)) => Ok(Self::Unix(path.into())),
            Some(("unixgram", path)) => Ok(Self::UnixDatagram(path.into())),
            Some(("tcp+tls", _)) => fault!(Unsupported, "syslog-address {text}: TLS is not supported"),
            _ => fault!(Usage, "syslog-address should be in form proto://address, got {text}"),
        }
    }
}

enum Connection {
    Datagram(UnixDatagram),
    Udp(UdpSocket),
    Stream(File),
}

/// An open connection.
pub struct Writer {
    connection: Connection,
    /// A server that takes nothing now loses the line (`mode=non-blocking`); else it is waited for, a second.
    impatient: bool,
    facility: u8,
    rfc5424: bool,
    tag: String,
    host: String,
    stdout: Splitter,
    stderr: Splitter,
}

impl Writer {
    /// Connects, so that a missing server is known before the container starts.
    pub fn open(record: &Container) -> Result<Self> {
        let config = &record.host_config.log_config;
        let options = &config.config;
        let connection = connect(&Address::read(config)?).context("failed to initialize logging driver")?;
        let facility = facility(options.get("syslog-facility").map_or("daemon", String::as_str))?;
        let template = options.get("tag").map_or("{{.ID}}", String::as_str);
        Ok(Self {
            connection,
            impatient: super::buffer(config)?.is_some(),
            facility,
            rfc5424: options.get("syslog-format").is_some_and(|format| format.starts_with("rfc5424")),
            tag: tag(record, template),
            host: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            stdout: Splitter::default(),
            stderr: Splitter::default(),
        })
    }

    /// Sends every line that `bytes` completes.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let mut lines = Vec::new();
        let splitter = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
        splitter.feed(bytes, |line| lines.push(line.to_vec()));
        self.send(stream, lines);
    }

    /// Sends the unfinished lines.
    pub fn flush(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut lines = Vec::new();
            let splitter = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
            splitter.finish(|line| lines.push(line.to_vec()));
            self.send(stream, lines);
        }
    }

    fn send(&mut self, stream: Stream, lines: Vec<Vec<u8>>) {
        // Informational, or an error.
        let priority = self.facility * 8 + if stream == Stream::Stdout { 6 } else { 3 };
        let pid = std::process::id();
        for line in lines {
            let now = Zoned::now();
            let (host, tag) = (&self.host, &self.tag);
            let mut message = if self.rfc5424 {
                let time = now.strftime("%Y-%m-%dT%H:%M:%S%:z");
                format!("<{priority}>1 {time} {host} {tag} {pid} {tag} - ").into_bytes()
            } else {
                let time = now.strftime("%b %e %H:%M:%S");
                format!("<{priority}>{time} {tag}[{pid}]: ").into_bytes()
            };
            message.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(&line));
            message.push(b'\n');
            // A server that has gone must not stop the container; the line is lost, as syslog is.
            let _ = match &mut self.connection {
                Connection::Datagram(socket) => socket.send(&message).map(drop),
                Connection::Udp(socket) => socket.send(&message).map(drop),
                Connection::Stream(stream) if self.impatient && !has_room(stream) => Ok(()),
                Connection::Stream(stream) => stream.write_all(&message),
            };
        }
    }
}

/// Whether a stream takes bytes now.
fn has_room(stream: &File) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn connect(address: &Address) -> Result<Connection> {
    let stream = |path: &str| -> Result<Connection> {
        let socket = UnixStream::connect(path).with_context(|| format!("dial unix {path}"))?;
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        Ok(Connection::Stream(OwnedFd::from(socket).into()))
    };
    let datagram = |path: &str| -> Result<Connection> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path).with_context(|| format!("dial unixgram {path}"))?;
        socket.set_nonblocking(true)?;
        Ok(Connection::Datagram(socket))
    };
    match address {
        Address::Local => ["/dev/log", "/var/run/syslog", "/var/run/log"]
            .into_iter()
            .find_map(|path| datagram(path).or_else(|_| stream(path)).ok())
            .context("Unix syslog delivery error"),
        Address::Unix(path) => stream(path),
        Address::UnixDatagram(path) => datagram(path),
        Address::Udp(host) => {
            let socket = UdpSocket::bind(if host.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" })?;
            socket.connect(host).with_context(|| format!("dial udp {host}"))?;
            Ok(Connection::Udp(socket))
        }
        Address::Tcp(host) => {
            let socket = TcpStream::connect(host).with_context(|| format!("dial tcp {host}"))?;
            socket.set_write_timeout(Some(Duration::from_secs(1)))?;
            Ok(Connection::Stream(OwnedFd::from(socket).into()))
        }
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

    #[test]
    fn addresses() {
        let read = |text: &str| {
            let config = [("syslog-address".to_owned(), text.to_owned())].into();
            Address::read(&LogConfig { driver: "syslog".into(), config })
        };
        assert_eq!(read("udp://1.2.3.4").unwrap(), Address::Udp("1.2.3.4:514".into()));
        assert_eq!(read("tcp://h:99").unwrap(), Address::Tcp("h:99".into()));
        assert!(read("bogus").is_err() && read("tcp+tls://x").is_err());
        assert_eq!(
            (facility("daemon").unwrap(), facility("local7").unwrap(), facility("5").unwrap()),
            (3, 23, 5)
        );
        assert!(facility("x").is_err() && facility("").is_err());
    }
}
