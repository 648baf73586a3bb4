//! TLS for logs: `imgtool relay` holds the connection and we a socket to it, so that a supervisor carries no TLS library.

use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use contracts::container::LogConfig;
use contracts::fault;
use sys::retry::uninterrupted;

use crate::log::values::flag;
use crate::tools;

/// How a server is to be believed, and what it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// `--flag=value` for the relay.
    flags: Vec<String>,
}

impl Trust {
    /// Reads `syslog-tls-*`.
    pub fn read(config: &LogConfig) -> Result<Self> {
        let mut flags = Vec::new();
        for name in ["ca-cert", "cert", "key"] {
            let Some(path) = config.config.get(&format!("syslog-tls-{name}")) else { continue };
            if !path.starts_with('/') {
                fault!(Usage, "log-opt syslog-tls-{name}={path}: the path must be absolute");
            }
            flags.push(format!("--{name}={path}"));
        }
        let has = |name: &str| config.config.contains_key(name);
        if has("syslog-tls-cert") != has("syslog-tls-key") {
            fault!(Usage, "log-opt syslog-tls-cert and syslog-tls-key belong together");
        }
        if flag(config, "syslog-tls-skip-verify")? {
            flags.push("--skip-verify".into());
        }
        Ok(Self { flags })
    }
}

/// A server that TLS is spoken with.
#[derive(Debug, Clone)]
pub struct Relay {
    pub addresses: Vec<SocketAddr>,
    /// The name its certificate must have.
    pub name: String,
    pub trust: Trust,
}

impl Relay {
    /// A relay that begins to connect; it is the receiver from the newline on that comes out of the socket.
    pub fn begin(&self, stderr: Stdio) -> Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair().context("make a socket pair")?;
        let mut command = tools::imgtool("relay");
        command.arg(format!("--name={}", self.name)).args(&self.trust.flags);
        command.args(self.addresses.iter().map(ToString::to_string));
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(stderr);
        // Reaped by whoever reaps the supervisor's children.
        drop(command.spawn().context("execute imgtool relay")?);
        ours.set_nonblocking(true)?;
        Ok(ours)
    }

    /// A relay that is connected; else why not.
    pub fn connect(&self, patience: Duration) -> Result<UnixStream> {
        let (mut why, stderr) = std::io::pipe().context("make a pipe")?;
        let mut socket = self.begin(Stdio::from(stderr))?;
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(patience))?;
        match uninterrupted(|| socket.read(&mut [0])) {
            Ok(1) => {}
            Err(err) if err.kind() == ErrorKind::WouldBlock => bail!("TLS with {}: no answer", self.name),
            _ => {
                let mut said = String::new();
                why.read_to_string(&mut said).context("ask imgtool relay")?;
                let said = said.lines().next_back().unwrap_or("imgtool relay ended");
                bail!("{}", said.trim_start_matches("imgtool: "));
            }
        }
        socket.set_read_timeout(None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// Whether a relay that connects has done so; it ended where it could not.
pub fn connected(mut socket: &UnixStream) -> bool {
    matches!(socket.read(&mut [0]), Ok(1))
}
