//! Docker's engine as a place: `docker-daemon:NAME`. Images go through its API as archives, as `docker save` and
//! `docker load` move them.

use std::env;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::fault::{Fault, Kind};
use serde::Deserialize;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, ShutdownHandle, Transport,
};
use ureq::{Agent, Body, SendBody};

use crate::registry::http::explain;
use crate::registry::tls::{certificates, client_pair};

const USUAL: &str = "unix:///var/run/docker.sock";

/// An engine, not yet spoken with.
pub struct Engine {
    agent: Agent,
    base: String,
    host: String,
}

impl Engine {
    /// The engine at `host` (`unix:///PATH`, `tcp://HOST:PORT`), else at `DOCKER_HOST`, else at docker's usual socket.
    /// TLS as `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` say.
    ///
    /// # Errors
    /// A kind of address that is not supported; a certificate that cannot be read.
    pub fn new(host: Option<&str>) -> Result<Self> {
        let told = host.map(str::to_owned).or_else(|| env::var("DOCKER_HOST").ok());
        let host = told.filter(|text| !text.is_empty()).unwrap_or_else(|| USUAL.into());
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(30)))
            .input_buffer_size(128 << 10)
            .output_buffer_size(128 << 10);
        if let Some(path) = host.strip_prefix("unix://") {
            let connector = Socket { path: Path::new("/").join(path) };
            let agent = Agent::with_parts(config.build(), connector, DefaultResolver::default());
            // An address, since the name of a socket's server is nobody's and must not be looked up.
            return Ok(Self { agent, base: "http://127.0.0.1".into(), host });
        }
        let Some(address) = host.strip_prefix("tcp://") else {
            fault!(Unsupported, "engine at {host}: only unix:// and tcp:// are spoken here");
        };
        let address = address.trim_end_matches('/');
        let verify = env::var_os("DOCKER_TLS_VERIFY").is_some_and(|text| !text.is_empty());
        let (scheme, config) = if verify { ("https", config.tls_config(tls()?)) } else { ("http", config) };
        let base = format!("{scheme}://{address}");
        Ok(Self { agent: config.build().new_agent(), base, host })
    }

    /// The archive of an image that the engine has under `name`.
    ///
    /// # Errors
    /// `NotFound`; the engine does not answer.
    pub fn save(&self, name: &str) -> Result<impl Read + Send + use<>> {
        let answer = self.agent.get(format!("{}/images/{name}/get", self.base)).call();
        let answer = self.good(answer, &format!("image {name}"))?;
        Ok(answer.into_body().into_reader())
    }

    /// Gives the engine an archive, which `write` writes.
    ///
    /// # Errors
    /// `write` fails; the engine does not take it, with its words.
    pub fn load(&self, write: impl FnOnce(&mut dyn Write) -> Result<()> + Send) -> Result<()> {
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let (written, answer) = thread::scope(|scope| {
            let writing = scope.spawn(move || {
                let mut out = io::BufWriter::with_capacity(128 << 10, writer);
                write(&mut out).and_then(|()| out.flush().context("send the archive"))
            });
            let request = self.agent.post(format!("{}/images/load?quiet=1", self.base));
            // Dropped with the request, so that a writer whose engine went away ends too.
            let request = request.content_type("application/x-tar");
            let answer = request.send(SendBody::from_owned_reader(reader));
            (writing.join(), answer)
        });
        let written = written.unwrap_or_else(|_| Err(anyhow::anyhow!("the archive's writer ended badly")));
        // A pipe that the engine let go is explained by what the engine says; anything else comes before that.
        let broken = |err: &anyhow::Error| {
            err.chain()
                .filter_map(|err| err.downcast_ref::<io::Error>())
                .any(|err| err.kind() == io::ErrorKind::BrokenPipe)
        };
        if let Err(err) = written
            && !broken(&err)
        {
            return Err(err);
        }
        let answer = self.good(answer, "load")?;
        self.took(answer)
    }

    /// Reads the lines of progress, of which one may be an error.
    fn took(&self, answer: Response<Body>) -> Result<()> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            error: Option<String>,
        }
        for line in BufReader::new(answer.into_body().into_reader().take(16 << 20)).lines() {
            let line = line.with_context(|| format!("answer of the engine at {}", self.host))?;
            let said = serde_json::from_str::<Line>(&line).ok().and_then(|line| line.error);
            if let Some(why) = said {
                fault!(Remote, "engine at {}: {}", self.host, plain(&why));
            }
        }
        Ok(())
    }

    fn good(&self, answer: Result<Response<Body>, ureq::Error>, what: &str) -> Result<Response<Body>> {
        #[derive(Deserialize)]
        struct Words {
            message: String,
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(err) => fault!(Remote, "engine at {}: {}", self.host, explain(&err)),
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let mut bytes = Vec::new();
        // A body that breaks off leaves the status to explain.
        let _ = answer.into_body().into_reader().take(16 << 10).read_to_end(&mut bytes);
        let words =
            serde_json::from_slice::<Words>(&bytes).map_or_else(|_| status.to_string(), |w| w.message);
        let kind = if status == 404 { Kind::NotFound } else { Kind::Remote };
        Err(Fault::new(kind, format!("{what}: engine at {}: {}", self.host, plain(&words))).into())
    }
}

/// A stranger's words on one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect::<String>().trim().to_owned()
}

/// `ca.pem`, and `cert.pem` with `key.pem`, of `DOCKER_CERT_PATH` or docker's own directory.
fn tls() -> Result<TlsConfig> {
    let told = env::var_os("DOCKER_CERT_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let home = || Path::new(&env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".docker");
    let dir = told.unwrap_or_else(home);
    let roots = certificates(&dir.join("ca.pem"))?;
    let cert = dir.join("cert.pem");
    let client = if cert.exists() { Some(client_pair(&cert, &dir.join("key.pem"))?) } else { None };
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::from(roots))
        .client_cert(client)
        .build())
}

/// Connects to a socket in the file system, whatever the request's address.
#[derive(Debug)]
struct Socket {
    path: PathBuf,
}

impl Connector for Socket {
    type Out = Connection;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let told = |err: io::Error| io::Error::new(err.kind(), format!("{}: {err}", self.path.display()));
        let stream = Arc::new(Stream(UnixStream::connect(&self.path).map_err(told)?));
        let buffers =
            LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        let weak = Arc::downgrade(&stream);
        (details.register_shutdown)(weak)?;
        Ok(Some(Connection { stream, buffers }))
    }
}

#[derive(Debug)]
struct Stream(UnixStream);

impl ShutdownHandle for Stream {
    fn shutdown(&self) {
        // Closed already where it fails.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

struct Connection {
    stream: Arc<Stream>,
    buffers: LazyBuffers,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Connection(engine)")
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _timeout: NextTimeout) -> Result<(), ureq::Error> {
        (&self.stream.0).write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, _timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let buffer = self.buffers.input_append_buf();
        let amount = loop {
            match (&self.stream.0).read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        // One request, one connection: whether an idle one still lives need not be asked.
        false
    }
}
