//! Certificates: the system's authorities, `certs.d` directories, client certificates; and the agents made of them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

/// Where distributions keep the system's authorities.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Makes an agent for one host.
///
/// `cert_dir` replaces the `certs.d` directories; `verify` false takes any certificate; `stall` is the longest wait
/// for a single read or write.
///
/// # Errors
/// A certificate file that is there and cannot be read.
pub fn agent(
    host: &str,
    cert_dir: Option<&Path>,
    verify: bool,
    stall: Duration,
    proxy: Option<Proxy>,
) -> Result<Agent> {
    let dirs = cert_dir.map_or_else(|| certs_d(host), |dir| vec![dir.to_path_buf()]);
    let mut own = Vec::new();
    let mut client = None;
    for dir in &dirs {
        own.extend(authorities_in(dir)?);
        client = client.or(client_certificate(dir)?);
    }
    let roots = if verify { [&own[..], system_authorities()].concat() } else { Vec::new() };
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::from(roots))
        .client_cert(client)
        .disable_verification(!verify)
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // Redirects are followed by `http`, which knows whose credentials are whose.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("bulkhead-imgtool/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(stall.min(Duration::from_secs(30))))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall))
        .max_idle_connections_per_host(8)
        .input_buffer_size(128 << 10)
        .output_buffer_size(128 << 10)
        .proxy(proxy);
    Ok(config.build().new_agent())
}

/// The directories with certificates for `host`, the more special ones first.
fn certs_d(host: &str) -> Vec<PathBuf> {
    let mut bases = Vec::new();
    if let Some(home) = env::var_os("HOME").filter(|_| !crate::rootless::is_real_root()) {
        bases.push(Path::new(&home).join(".config/containers/certs.d"));
        bases.push(Path::new(&home).join(".config/docker/certs.d"));
    }
    bases.extend(
        ["/etc/bulkhead/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from),
    );
    if let Some(config) = env::var_os("BULKHEAD_CONFIG").filter(|path| !path.is_empty()) {
        bases.insert(0, Path::new(&config).join("certs.d"));
    }
    bases.into_iter().map(|base| base.join(host)).filter(|dir| dir.is_dir()).collect()
}

fn authorities_in(dir: &Path) -> Result<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for path in files_ending(dir, "crt")? {
        found.extend(certificates(&path)?);
    }
    Ok(found)
}

/// The first `NAME.cert` with its `NAME.key`.
fn client_certificate(dir: &Path) -> Result<Option<ClientCert>> {
    let Some(path) = files_ending(dir, "cert")?.into_iter().next() else { return Ok(None) };
    client_pair(&path, &path.with_extension("key")).map(Some)
}

/// A client's certificate with its key.
///
/// # Errors
/// A file cannot be read or parsed; the two do not belong together.
pub fn client_pair(cert: &Path, key: &Path) -> Result<ClientCert> {
    let bytes = fs::read(key).with_context(|| format!("read client key {}", key.display()))?;
    let private =
        PrivateKey::from_pem(&bytes).with_context(|| format!("parse client key {}", key.display()))?;
    let chain = certificates(cert)?;
    // The agent would panic on what it cannot use, an old certificate of version 1, say.
    let wrong = || format!("use client certificate {} with {}", cert.display(), key.display());
    let der = chain.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
    let key_der = PrivateKeyDer::try_from(private.der().to_vec());
    let key_der = key_der.map_err(|why| anyhow::anyhow!("{why}")).with_context(wrong)?;
    CertifiedKey::from_der(der, key_der, &rustls::crypto::ring::default_provider()).with_context(wrong)?;
    Ok(ClientCert::new_with_certs(&chain, private))
}

fn files_ending(dir: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let listed = || format!("list {}", dir.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(listed)? {
        let path = entry.with_context(listed)?.path();
        if path.extension().is_some_and(|own| own == end) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// All certificates of a PEM file.
///
/// # Errors
/// It cannot be read or parsed.
pub fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let bytes = fs::read(path).with_context(|| format!("read certificate {}", path.display()))?;
    let mut found = Vec::new();
    for item in parse_pem(&bytes) {
        if let PemItem::Certificate(certificate) =
            item.with_context(|| format!("parse certificate {}", path.display()))?
        {
            found.push(certificate);
        }
    }
    Ok(found)
}

/// Parsed once per process. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's.
pub fn system_authorities() -> &'static [Certificate<'static>] {
    static FOUND: OnceLock<Vec<Certificate<'static>>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let told = env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
        let dir = env::var_os("SSL_CERT_DIR").filter(|path| !path.is_empty()).map(PathBuf::from);
        let mut files: Vec<PathBuf> = told.into_iter().collect();
        if let Some(dir) = dir {
            files.extend(fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        if files.is_empty() {
            files.extend(BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()));
        }
        // A file that cannot be read leaves its authorities unknown, and the connection says so.
        files.iter().flat_map(|path| certificates(path).unwrap_or_default()).collect()
    })
}
