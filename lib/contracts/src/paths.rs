//! Where the suite keeps its files. The only place that joins these names.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Whether this process acts for an ordinary user: it is one, or (as podman without privileges starts a runtime) root of
/// a user namespace that is no machine of its own: then the XDG directories are told, and the user is not called root.
#[must_use]
pub fn is_ordinary_user() -> bool {
    if !nix::unistd::geteuid().is_root() {
        return true;
    }
    env::var_os("XDG_RUNTIME_DIR").is_some_and(|path| !path.is_empty())
        && env::var_os("USER").is_none_or(|user| user != "root")
        && sys::namespace::in_user_namespace()
}

/// The three roots. As root: `/run/bulkhead`, `/var/lib/bulkhead`, `/etc/bulkhead`; as a user the XDG directories.
/// `BULKHEAD_STATE`, `BULKHEAD_STORE` and `BULKHEAD_CONFIG` override them, which is how tests and demos stay apart.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Gone after a reboot: sockets, pids, network namespaces.
    pub state: PathBuf,
    /// Kept: images, layers, containers, volumes, network definitions.
    pub store: PathBuf,
    /// What the administrator writes.
    pub config: PathBuf,
}

impl Paths {
    /// The roots for this process.
    #[must_use]
    pub fn from_env() -> Self {
        let root = !is_ordinary_user();
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/".into()));
        let pick = |over: &str, system: &str, xdg: &str, fallback: PathBuf| {
            if let Some(path) = env::var_os(over).filter(|path| !path.is_empty()) {
                return PathBuf::from(path);
            }
            if root {
                return PathBuf::from(system);
            }
            env::var_os(xdg).map_or(fallback, PathBuf::from).join("bulkhead")
        };
        let runtime_dir = PathBuf::from(format!("/tmp/bulkhead-{}", nix::unistd::geteuid()));
        Self {
            state: pick("BULKHEAD_STATE", "/run/bulkhead", "XDG_RUNTIME_DIR", runtime_dir),
            store: pick("BULKHEAD_STORE", "/var/lib/bulkhead", "XDG_DATA_HOME", home.join(".local/share")),
            config: pick("BULKHEAD_CONFIG", "/etc/bulkhead", "XDG_CONFIG_HOME", home.join(".config")),
        }
    }

    /// The runtime's default `--root`: one directory per container with its `state.json`.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.state.join("runtime")
    }

    /// The live side of one supervised container: sockets, supervisor's pid.
    #[must_use]
    pub fn shim(&self, id: &str) -> PathBuf {
        self.state.join("shim").join(id)
    }

    /// Live network state: leases, attachments, namespaces, DNS.
    #[must_use]
    pub fn net(&self) -> PathBuf {
        self.state.join("net")
    }

    /// The OCI image layout.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.store.join("images")
    }

    /// Extracted layers, one directory per diff id.
    #[must_use]
    pub fn layers(&self) -> PathBuf {
        self.store.join("layers")
    }

    /// Further stores that images are taken from and that are never written: `BULKHEAD_STORES`, roots separated by
    /// colons, or else the lines of `CONFIG/stores`.
    ///
    /// # Errors
    /// The file cannot be read; a path is not absolute.
    pub fn additional_stores(&self) -> io::Result<Vec<PathBuf>> {
        let listed: Vec<PathBuf> = match env::var_os("BULKHEAD_STORES") {
            Some(list) => env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
            None => match fs::read_to_string(self.config.join("stores")) {
                Ok(text) => {
                    let lines = text.lines().map(str::trim);
                    lines.filter(|line| !(line.is_empty() || line.starts_with('#'))).map(Into::into).collect()
                }
                Err(err) if err.kind() == ErrorKind::NotFound => Vec::new(),
                Err(err) => return Err(err),
            },
        };
        if let Some(wrong) = listed.iter().find(|path| !path.is_absolute()) {
            let why = format!("additional store {}: not an absolute path", wrong.display());
            return Err(io::Error::new(ErrorKind::InvalidInput, why));
        }
        Ok(listed.into_iter().filter(|path| *path != self.store).collect())
    }

    /// All containers, one directory each.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.store.join("containers")
    }

    /// Containers' names: one symbolic link each, to the id. Making a link is claiming the name.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        self.store.join("names")
    }

    /// What happened to containers and volumes, one JSON object per line.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.store.join("events.json")
    }

    /// Named volumes, one directory each.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.store.join("volumes")
    }

    /// Network definitions, one JSON file each.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.store.join("networks")
    }
}
