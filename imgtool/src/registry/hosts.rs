//! Which server stands behind a registry's name: mirrors, insecure and blocked registries.
//!
//! Read where users already have them: `/etc/bulkhead/registries.conf` or Podman's `registries.conf` (version 2, with
//! its `.d` directories), and `insecure-registries` and `registry-mirrors` of Docker's `daemon.json`.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::daemon::Daemon;
use contracts::fault;
use contracts::paths::Paths;
use serde::Deserialize;

use super::short::ShortNames;
use crate::reference::Reference;

/// One place to ask for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host[:port]` of the server.
    pub host: String,
    /// The repository on that server.
    pub path: String,
    /// Plain HTTP and unverified certificates are allowed.
    pub insecure: bool,
}

/// The merged configuration.
#[derive(Debug, Default)]
pub struct Hosts {
    registries: Vec<Entry>,
    short: ShortNames,
    insecure: Vec<String>,
    hub_mirrors: Vec<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    registry: Vec<Entry>,
    #[serde(flatten)]
    short: ShortNames,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Entry {
    prefix: String,
    location: String,
    insecure: bool,
    blocked: bool,
    mirror_by_digest_only: bool,
    mirror: Vec<Mirror>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    insecure: bool,
    pull_from_mirror: String,
}

impl Hosts {
    /// Reads the files of this machine; missing ones are empty.
    ///
    /// # Errors
    /// A file that is there and does not parse.
    pub fn load(paths: &Paths) -> Result<Self> {
        let mut hosts = Self::default();
        for file in config_files(paths) {
            if let Some(text) = read_if_there(&file)? {
                let parsed: File =
                    toml::from_str(&text).with_context(|| format!("parse {}", file.display()))?;
                // A later file replaces entries of the same prefix, as containers-registries.conf.d(5) says.
                for entry in parsed.registry {
                    hosts.registries.retain(|known| known.key() != entry.key());
                    hosts.registries.push(entry);
                }
                hosts.short.merge(parsed.short);
            }
        }
        if let Some(daemon) = Daemon::load(paths)? {
            hosts.insecure = daemon.insecure_registries;
            hosts.hub_mirrors = daemon.registry_mirrors;
        }
        Ok(hosts)
    }

    /// What names without a registry mean.
    #[must_use]
    pub const fn short(&self) -> &ShortNames {
        &self.short
    }

    /// Where to ask for `name`, in order: mirrors first, the registry itself last. Pushes (`to_write`) go to the
    /// registry only.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn endpoints(&self, name: &Reference, to_write: bool) -> Result<Vec<Endpoint>> {
        let full = name.repository();
        let entry = self
            .registries
            .iter()
            .filter(|entry| entry.covers(name.domain(), &full))
            .max_by_key(|entry| entry.key().len());
        let mut endpoints = Vec::new();
        if let Some(entry) = entry {
            if entry.blocked {
                fault!(Denied, "registry {} is blocked by registries.conf", entry.key());
            }
            for mirror in entry.mirror.iter().filter(|_| !to_write) {
                let by_digest = match mirror.pull_from_mirror.as_str() {
                    "digest-only" => Some(true),
                    "tag-only" => Some(false),
                    _ => entry.mirror_by_digest_only.then_some(true),
                };
                if by_digest.is_none_or(|wanted| wanted == name.digest().is_some()) {
                    endpoints.push(self.endpoint(&entry.rewrite(&full, &mirror.location), mirror.insecure));
                }
            }
        }
        if name.domain() == "docker.io" && !to_write {
            for mirror in &self.hub_mirrors {
                let plain = mirror.starts_with("http://");
                let host = mirror.trim_start_matches("https://").trim_start_matches("http://");
                let location = format!("{}/{}", host.trim_end_matches('/'), name.path());
                endpoints.push(self.endpoint(&location, plain));
            }
        }
        let own = match entry {
            Some(entry) if !entry.location.is_empty() => entry.rewrite(&full, &entry.location),
            _ => full,
        };
        endpoints.push(self.endpoint(&own, entry.is_some_and(|entry| entry.insecure)));
        Ok(endpoints)
    }

    fn endpoint(&self, location: &str, insecure: bool) -> Endpoint {
        let (host, path) = location.split_once('/').unwrap_or((location, ""));
        // The hub's name is not its server.
        let host = if host == "docker.io" { "registry-1.docker.io" } else { host };
        Endpoint { host: host.into(), path: path.into(), insecure: insecure || self.is_insecure(host) }
    }

    /// Docker's rule: loopback, and what `insecure-registries` lists by name, address or network.
    fn is_insecure(&self, host: &str) -> bool {
        let name = host_only(host);
        let address = name.parse::<IpAddr>().ok();
        is_loopback(host)
            || self.insecure.iter().any(|entry| {
                entry == host
                    || entry == name
                    || address.is_some_and(|address| in_network(address, entry).unwrap_or(false))
            })
    }
}

impl Entry {
    fn key(&self) -> &str {
        if self.prefix.is_empty() { &self.location } else { &self.prefix }
    }

    /// `*.example.com` covers every host below; anything else covers itself and what follows a slash.
    fn covers(&self, domain: &str, full: &str) -> bool {
        let key = self.key();
        if let Some(suffix) = key.strip_prefix('*') {
            return suffix.starts_with('.') && domain.split(':').next().unwrap_or_default().ends_with(suffix);
        }
        !key.is_empty() && full.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn rewrite(&self, full: &str, location: &str) -> String {
        match full.strip_prefix(self.key()) {
            Some(rest) if !self.key().starts_with('*') => format!("{location}{rest}"),
            _ => format!("{location}/{}", full.split_once('/').map_or("", |(_, path)| path)),
        }
    }
}

/// `127.0.0.0/8`, `::1` and `localhost`, with or without a port.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let name = host_only(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A host without its port, an IPv6 address without its brackets.
#[must_use]
pub fn host_only(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Whether `network` (`10.0.0.0/8`) holds the address; `None` where it is no network of its kind.
#[must_use]
pub fn in_network(address: IpAddr, network: &str) -> Option<bool> {
    let (base, bits) = network.split_once('/')?;
    let (IpAddr::V4(address), Ok(base)) = (address, base.parse::<Ipv4Addr>()) else { return None };
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    Some(u32::from(address) & mask == u32::from(base) & mask)
}

fn config_files(paths: &Paths) -> Vec<PathBuf> {
    if let Some(file) = env::var_os("CONTAINERS_REGISTRIES_CONF").filter(|path| !path.is_empty()) {
        return vec![file.into()];
    }
    let mut files = Vec::new();
    let own = paths.config.join("registries.conf");
    if own.exists() {
        files.push(own);
    } else {
        files.push("/etc/containers/registries.conf".into());
        files.extend(sorted_confs(Path::new("/etc/containers/registries.conf.d")));
        if let Some(home) = env::var_os("HOME").filter(|_| !crate::rootless::is_real_root()) {
            let user = Path::new(&home).join(".config/containers");
            files.push(user.join("registries.conf"));
            files.extend(sorted_confs(&user.join("registries.conf.d")));
        }
    }
    files
}

fn sorted_confs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "conf")).collect();
    files.sort();
    files
}

fn read_if_there(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err).with_context(|| format!("read {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Hosts {
        let file: File = toml::from_str(text).unwrap();
        Hosts { registries: file.registry, short: file.short, ..Hosts::default() }
    }

    fn shown(hosts: &Hosts, name: &str) -> Vec<String> {
        let endpoints = hosts.endpoints(&name.parse().unwrap(), false).unwrap();
        let mark = |insecure| if insecure { "!" } else { "" };
        endpoints.iter().map(|e| format!("{}{}/{}", mark(e.insecure), e.host, e.path)).collect()
    }

    #[test]
    fn mirrors_come_first_and_the_longest_prefix_wins() {
        let hosts = hosts(
            r#"
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.lan:5000/hub"
            insecure = true
            [[registry]]
            prefix = "docker.io/library/secret"
            blocked = true
            [[registry]]
            prefix = "*.corp"
            location = "proxy.corp/all"
            [[registry]]
            location = "q.io"
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "m.io"
            [aliases]
            "fedora" = "registry.fedoraproject.org/fedora"
            "#,
        );
        assert_eq!(
            shown(&hosts, "web"),
            ["!mirror.lan:5000/hub/library/web", "registry-1.docker.io/library/web"]
        );
        assert!(hosts.endpoints(&"secret:1".parse().unwrap(), false).is_err());
        assert_eq!(shown(&hosts, "a.corp/x/y"), ["proxy.corp/all/x/y"]);
        assert_eq!(shown(&hosts, "q.io/a"), ["q.io/a"]);
        assert_eq!(shown(&hosts, &format!("q.io/a@sha256:{}", "a".repeat(64))), ["m.io/a", "q.io/a"]);
        let fedora = hosts.short().alias("fedora:40").unwrap();
        assert_eq!(fedora.to_string(), "registry.fedoraproject.org/fedora:40");
        let push = hosts.endpoints(&"web".parse().unwrap(), true).unwrap();
        assert_eq!(push.len(), 1);
    }

    #[test]
    fn loopback_and_listed_networks_are_insecure() {
        let hosts = Hosts {
            insecure: vec!["10.0.0.0/8".into(), "reg.lan:5000".into()],
            hub_mirrors: vec!["http://m.lan/".into()],
            ..Hosts::default()
        };
        for (name, insecure) in [
            ("localhost/a", true),
            ("127.8.0.1:5000/a", true),
            ("[::1]:5000/a", true),
            ("10.200.0.1:5080/a", true),
            ("reg.lan:5000/a", true),
            ("reg.lan/a", false),
            ("11.0.0.1/a", false),
        ] {
            assert_eq!(
                hosts.endpoints(&name.parse().unwrap(), true).unwrap()[0].insecure,
                insecure,
                "{name}"
            );
        }
        assert_eq!(shown(&hosts, "a/b"), ["!m.lan/a/b", "registry-1.docker.io/a/b"]);
    }
}
