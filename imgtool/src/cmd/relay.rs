//! `imgtool relay`: what a socket on stdin says, through TLS to a server, and its answers back.
//!
//! Not for people: shim's supervisors execute it for logs that go over TLS, so that none of them carries a TLS library of
//! its own. When the server's certificate is accepted, one newline comes out of the socket; from then on it is the
//! connection. At the end of input everything is sent, then it ends.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault::{Fault, Kind};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::registry::tls::system_authorities;

/// The time that connecting and the handshake have, each.
const CONNECT: Duration = Duration::from_secs(10);
/// As much as one TLS record takes.
const CHUNK: usize = 16 << 10;

/// Flags of `relay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server's addresses, tried in order
    #[arg(required = true)]
    addresses: Vec<SocketAddr>,
    /// The name that its certificate must have
    #[arg(long)]
    name: String,
    /// Trust these authorities, too (PEM)
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// Our certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Our key (PEM)
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Take any certificate
    #[arg(long)]
    skip_verify: bool,
}

/// # Errors
/// No server there, a certificate that is not trusted, a connection that broke.
pub fn run(args: &Args) -> Result<Exit> {
    let plain =
        UnixStream::from(io::stdin().as_fd().try_clone_to_owned().context("take the socket on stdin")?);
    let config = Arc::new(config(args)?);
    let name =
        ServerName::try_from(args.name.clone()).with_context(|| format!("server name {}", args.name))?;
    let remote = |err: io::Error, what: String| Fault::new(Kind::Remote, format!("{what}: {err}"));
    let mut last = None;
    let mut connected = None;
    for address in &args.addresses {
        match TcpStream::connect_timeout(address, CONNECT) {
            Ok(socket) => {
                connected = Some((socket, address));
                break;
            }
            Err(err) => last = Some(remote(err, format!("dial tcp {address}"))),
        }
    }
    let Some((mut socket, address)) = connected else {
        return Err(last.map_or_else(|| anyhow::anyhow!("no address"), Into::into));
    };
    let mut tls = ClientConnection::new(config, name).context("begin TLS")?;
    socket.set_read_timeout(Some(CONNECT))?;
    socket.set_write_timeout(Some(CONNECT))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket)
            .map_err(|err| remote(err, format!("TLS with {} ({address})", args.name)))?;
    }
    (&plain).write_all(b"\n").context("answer")?;
    socket.set_nonblocking(true)?;
    plain.set_nonblocking(true)?;
    pump(&plain, &mut socket, &mut tls).map_err(|err| remote(err, format!("TLS with {}", args.name)))?;
    Ok(Exit::Ok)
}

/// Until either side has ended; nothing is read that cannot be passed on.
fn pump(mut plain: &UnixStream, socket: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut answer: Vec<u8> = Vec::new();
    let mut open = true;
    loop {
        while tls.wants_write() && ready(tls.write_tls(socket))?.is_some() {}
        if !open && !tls.wants_write() {
            return Ok(());
        }
        if open && !tls.wants_write() {
            match ready(plain.read(&mut chunk))? {
                Some(0) => {
                    open = false;
                    tls.send_close_notify();
                    continue;
                }
                Some(length) => {
                    tls.writer().write_all(&chunk[..length])?;
                    continue;
                }
                None => {}
            }
        }
        if answer.is_empty() && !listen(socket, tls, &mut answer)? {
            return Ok(());
        }
        if !answer.is_empty()
            && let Some(length) = ready(plain.write(&answer))?
        {
            answer.drain(..length);
            continue;
        }
        let mut near = PollFlags::empty();
        near.set(PollFlags::POLLIN, open && !tls.wants_write());
        near.set(PollFlags::POLLOUT, !answer.is_empty());
        let mut far = PollFlags::empty();
        far.set(PollFlags::POLLIN, answer.is_empty());
        far.set(PollFlags::POLLOUT, tls.wants_write());
        let mut fds = [PollFd::new(plain.as_fd(), near), PollFd::new(socket.as_fd(), far)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// Takes what the server said; false at its end.
fn listen(socket: &mut TcpStream, tls: &mut ClientConnection, answer: &mut Vec<u8>) -> io::Result<bool> {
    let ended = ready(tls.read_tls(socket))? == Some(0);
    // What came with the handshake, too.
    let state = tls.process_new_packets().map_err(io::Error::other)?;
    let closed = ended || state.peer_has_closed();
    let mut plaintext = vec![0; state.plaintext_bytes_to_read()];
    tls.reader().read_exact(&mut plaintext)?;
    answer.append(&mut plaintext);
    Ok(!closed || !answer.is_empty())
}

/// `None` where it has to be waited for.
fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(err) => Err(err),
    }
}

fn config(args: &Args) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS versions")?;
    let builder = if args.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
    } else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(
            system_authorities().iter().map(|known| CertificateDer::from(known.der().to_vec())),
        );
        if let Some(path) = &args.ca_cert {
            for authority in certificates(path)? {
                roots.add(authority).with_context(|| format!("authority {}", path.display()))?;
            }
        }
        builder.with_root_certificates(roots)
    };
    let (Some(cert), Some(key)) = (&args.cert, &args.key) else { return Ok(builder.with_no_client_auth()) };
    let key_der = PrivateKeyDer::from_pem_file(key).with_context(|| format!("read key {}", key.display()))?;
    builder
        .with_client_auth_cert(certificates(cert)?, key_der)
        .with_context(|| format!("use certificate {} with key {}", cert.display(), key.display()))
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>> {
    let read = || format!("read certificate {}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .with_context(read)?
        .collect::<Result<_, _>>()
        .with_context(read)?;
    anyhow::ensure!(!found.is_empty(), "no certificate in {}", path.display());
    Ok(found)
}

/// Whoever they are: only their signatures must be right.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
