//! A real registry: Debian's docker-registry on a free port of loopback, plain, with TLS, or with TLS and htpasswd.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How it is protected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    Plain,
    Tls,
    /// TLS, and only for `user` with `secret`.
    Password,
    /// TLS, and only for who has a certificate of the same authority.
    Certificate,
}

/// A running registry; ends with the case.
pub struct Registry {
    child: Child,
    dir: TempDir,
    pub host: String,
}

impl Registry {
    pub fn start(guard: Guard) -> Self {
        Self::at("127.0.0.1", guard, "")
    }

    /// One on an address of this machine, with some more configuration.
    pub fn at(address: &str, guard: Guard, more: &str) -> Self {
        loopback_up();
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let mut text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}:{port}\n  secret: x\n",
            at("data").display()
        );
        if guard != Guard::Plain {
            certificates(&dir);
            text += &format!(
                "  tls:\n    certificate: {}\n    key: {}\n",
                at("srv.crt").display(),
                at("srv.key").display()
            );
        }
        if guard == Guard::Certificate {
            text += &format!("    clientcas: [{}]\n", at("certs/ca.crt").display());
        }
        text += more;
        if guard == Guard::Password {
            let made = Command::new("htpasswd")
                .args(["-Bbn", "user", "secret"])
                .output()
                .expect("htpasswd: make setup");
            std::fs::write(at("htpasswd"), made.stdout).unwrap();
            text += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", at("htpasswd").display());
        }
        std::fs::write(at("config.yml"), text).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry: make setup");
        let registry = Self { child, dir, host: format!("{address}:{port}") };
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < end, "docker-registry does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    /// The directory with its authority, for `--cert-dir`.
    pub fn cert_dir(&self) -> PathBuf {
        self.dir.path().join("certs")
    }
}

impl Registry {
    /// Puts its authority into `dir`, and with `client` a certificate that it lets in.
    pub fn certificates(&self, dir: &Path, client: bool) {
        std::fs::create_dir_all(dir).unwrap();
        let own = self.dir.path();
        std::fs::copy(own.join("certs/ca.crt"), dir.join("ca.crt")).unwrap();
        if client {
            std::fs::copy(own.join("me.crt"), dir.join("client.cert")).unwrap();
            std::fs::copy(own.join("old.crt"), dir.join("version1")).unwrap();
            std::fs::copy(own.join("me.key"), dir.join("client.key")).unwrap();
        }
    }

    /// A file or directory of its storage.
    pub fn data(&self, path: &str) -> PathBuf {
        self.dir.path().join("data").join(path)
    }

    /// The port it listens on.
    pub fn port(&self) -> &str {
        self.host.rsplit(':').next().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A new network namespace has its loopback down.
pub fn loopback_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        if TcpStream::connect(listener.local_addr().unwrap()).is_err() {
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        }
    });
}

fn certificates(dir: &TempDir) {
    let script = "mkdir certs
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=ca -keyout ca.key -out certs/ca.crt
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout srv.key -out srv.csr
        printf subjectAltName=DNS:localhost,DNS:registry.test,IP:127.0.0.1 >ext
        openssl x509 -req -in srv.csr -CA certs/ca.crt -CAkey ca.key -CAcreateserial -days 9 -out srv.crt -extfile ext
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=me -keyout me.key -out me.csr
        openssl x509 -req -in me.csr -CA certs/ca.crt -CAkey ca.key -CAcreateserial -days 9 -out old.crt
        printf extendedKeyUsage=clientAuth >ext
        openssl x509 -req -in me.csr -CA certs/ca.crt -CAkey ca.key -CAcreateserial -days 9 -out me.crt -extfile ext";
    let made = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir.path())
        .output()
        .expect("openssl: make setup");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
