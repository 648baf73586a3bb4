//! The client: what this machine and this command say about registries, and the connections that it keeps.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use contracts::fault::{Fault, Kind};
use contracts::paths::Paths;
use ureq::Agent;

use super::credentials::Credentials;
use super::hosts::{Endpoint, Hosts};
use super::url::origin;
use super::{proxy, tls};
use crate::reference::Reference;

/// The flags that every verb with a registry takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// Credentials file instead of Docker's and Podman's [env: REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE", help_heading = "Registry")]
    pub authfile: Option<PathBuf>,
    /// Credentials for this command
    #[arg(long, value_name = "USER:PASSWORD", help_heading = "Registry")]
    pub creds: Option<String>,
    /// A bearer token for this command
    #[arg(long, value_name = "TOKEN", help_heading = "Registry", conflicts_with = "creds")]
    pub registry_token: Option<String>,
    /// Directory with *.crt, *.cert and *.key instead of /etc/docker/certs.d/HOST and the like
    #[arg(long, value_name = "DIR", help_heading = "Registry")]
    pub cert_dir: Option<PathBuf>,
    /// Verify certificates and refuse plain HTTP; false allows both (default: false for loopback only)
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true,
          help_heading = "Registry")]
    pub tls_verify: Option<bool>,
    /// Further attempts after a transient failure
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "Registry")]
    pub retry: u32,
    /// Wait before the first further attempt, doubled each time; a registry's Retry-After wins
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, help_heading = "Registry")]
    pub retry_delay: Duration,
    /// The longest silence of a registry
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Registry")]
    pub timeout: Duration,
    /// Bytes of one request of an upload; a broken push goes on after the last whole one
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = chunk, help_heading = "Registry")]
    pub chunk_size: u64,
}

impl Flags {
    /// The flags of a command on which none were given.
    #[must_use]
    pub fn usual() -> Self {
        Self {
            retry: 3,
            retry_delay: Duration::from_secs(1),
            timeout: Duration::from_secs(60),
            chunk_size: 64 << 20,
            ..Self::default()
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 =
        text.trim_end_matches('s').parse().map_err(|_| format!("\"{text}\" is no number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|err| err.to_string())
}

fn chunk(text: &str) -> Result<u64, String> {
    let size = contracts::flag::size::storage(text).filter(|size| *size > 0);
    size.ok_or_else(|| format!("\"{text}\" is no size: 64MiB or 100MB expected"))
}

/// A client for all registries; share it between threads.
pub struct Client {
    pub(super) flags: Flags,
    pub(super) told: Option<Credentials>,
    pub(super) hosts: Hosts,
    pub(super) agents: Mutex<HashMap<(String, String, bool), Agent>>,
    /// Where uploads are remembered.
    pub(super) unfinished: PathBuf,
    pub(super) schemes: Mutex<HashMap<String, &'static str>>,
    pub(super) tokens: Mutex<HashMap<String, String>>,
}

impl Client {
    /// A client with the configuration of this machine and the flags of this command.
    ///
    /// # Errors
    /// A configuration file does not parse; `--creds` is not `user:password`.
    pub fn new(paths: &Paths, flags: &Flags) -> Result<Self> {
        let told = match (&flags.creds, &flags.registry_token) {
            (Some(text), _) => {
                let (user, password) = text.split_once(':').unwrap_or((text, ""));
                Some(Credentials::Password { user: user.into(), password: password.into() })
            }
            (None, Some(token)) => Some(Credentials::RegistryToken(token.clone())),
            (None, None) => None,
        };
        Ok(Self {
            flags: flags.clone(),
            told,
            hosts: Hosts::load(paths)?,
            agents: Mutex::default(),
            unfinished: paths.images().join("partial"),
            schemes: Mutex::default(),
            tokens: Mutex::default(),
        })
    }

    /// The name that `written` means, after the aliases of registries.conf.
    ///
    /// # Errors
    /// It is no image name.
    pub fn parse(&self, written: &str) -> Result<Reference, Fault> {
        let name = written.parse()?;
        Ok(self.hosts.short().alias(written).unwrap_or(name))
    }

    /// Does `what` with the first of the names that `written` may mean where the image is: several where registries.conf
    /// lists registries to search.
    ///
    /// # Errors
    /// Those of `what` where there is one name; else what each registry said.
    pub fn in_order<T>(&self, written: &str, mut what: impl FnMut(&Reference) -> Result<T>) -> Result<T> {
        let names = self.hosts.short().chosen(written)?;
        let (mut told, mut kind) = (Vec::new(), Kind::NotFound);
        for name in &names {
            let err = match what(name) {
                Err(err) if names.len() > 1 => err,
                other => return other,
            };
            match Kind::of(&err) {
                Some(Kind::NotFound) => {}
                Some(other @ (Kind::Remote | Kind::Denied)) => kind = other,
                // A full disk is no reason to take another image.
                _ => return Err(err),
            }
            told.push(format!("{}: {err:#}", name.domain()));
        }
        Err(Fault::new(kind, format!("no registry gives {written}: {}", told.join("; "))).into())
    }

    /// The server of a registry by its name alone, `host[:port]`.
    ///
    /// # Errors
    /// The registry is blocked; the name is none.
    pub fn endpoint(&self, host: &str) -> Result<Endpoint> {
        let plain = host.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
        // A path is needed to parse as a name and is dropped again.
        let name: Reference = format!("{plain}/x").parse().or_else(|_| format!("{plain}/x/y").parse())?;
        let mut endpoints = self.hosts.endpoints(&name, true)?;
        match endpoints.pop() {
            Some(endpoint) => Ok(self.fit(Endpoint { path: String::new(), ..endpoint })),
            None => Err(Fault::new(Kind::Usage, format!("{host} is no registry")).into()),
        }
    }

    /// The file that the flags name for credentials.
    #[must_use]
    pub fn authfile(&self) -> Option<&std::path::Path> {
        self.flags.authfile.as_deref()
    }

    pub(super) fn fit(&self, endpoint: Endpoint) -> Endpoint {
        match self.flags.tls_verify {
            Some(verify) => Endpoint { insecure: !verify, ..endpoint },
            None => endpoint,
        }
    }

    /// The agent for the host of a URL; connections are kept and shared.
    pub(super) fn agent(&self, url: &str, insecure: bool) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (scheme, host) = origin(url).split_once("://").unwrap_or(("https", url));
        // A name and password in a URL are no part of the host.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let key = (scheme.to_owned(), host.to_owned(), insecure);
        if let Some(agent) = agents.get(&key) {
            return Ok(agent.clone());
        }
        let proxy = proxy::of(scheme, host)?;
        let dir = self.flags.cert_dir.as_deref();
        let agent = tls::agent(host, dir, !insecure, self.flags.timeout, proxy)?;
        agents.insert(key, agent.clone());
        Ok(agent)
    }
}
