//! Docker's `daemon.json`: what an administrator asked for once, for every container, image and network.
//!
//! `CONFIG/daemon.json`, or else `/etc/docker/daemon.json`. Each tool takes what is its own; keys that are about a
//! process which does not exist here (sockets, its log, its pid) mean nothing. A key that docker does not know either is an
//! error, as in docker: most often it is one that was misspelt.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use crate::container::Ulimit;
use crate::paths::Paths;
use crate::{atomic, fault};

/// What of the file some tool follows; the rest is in `others`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Daemon {
    /// Registries without TLS, or with a certificate of nobody's.
    pub insecure_registries: Vec<String>,
    /// Asked before Docker Hub.
    pub registry_mirrors: Vec<String>,
    /// `--log-driver` of containers that have none.
    pub log_driver: Option<String>,
    /// `--log-opt` of containers with that driver.
    pub log_opts: BTreeMap<String, String>,
    /// `--ulimit`, by name.
    pub default_ulimits: BTreeMap<String, Ulimit>,
    /// `--dns`.
    pub dns: Vec<IpAddr>,
    /// `--dns-option`.
    pub dns_opts: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--shm-size`.
    pub default_shm_size: Option<String>,
    /// `--ipc`.
    pub default_ipc_mode: Option<String>,
    /// `--cgroupns`.
    pub default_cgroupns_mode: Option<String>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
    /// `--init`.
    pub init: Option<bool>,
    /// `--security-opt no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--security-opt seccomp=…`: a file, `builtin` or `unconfined`.
    pub seccomp_profile: Option<String>,
    /// `--runtime`.
    pub default_runtime: Option<String>,
    /// What `--runtime NAME` means.
    pub runtimes: BTreeMap<String, Runtime>,
    /// The user, or `USER:GROUP`, whose ids of /etc/subuid and /etc/subgid containers have.
    pub userns_remap: String,
    /// Every other key.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// An OCI runtime with a name.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Runtime {
    /// Its program: a path, or a name in PATH.
    pub path: PathBuf,
    /// Arguments before the verb.
    pub runtime_args: Vec<String>,
    /// A shim of containerd's instead of a program.
    pub runtime_type: String,
}

/// The keys of dockerd (28) that are not in [`Daemon`].
const OTHERS: &[&str] = &[
    "allow-direct-routing",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "authorization-plugins",
    "bip",
    "bip6",
    "bridge",
    "bridge-accept-fwmark",
    "builder",
    "cdi-spec-dirs",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "containerd-plugins-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cri-containerd",
    "data-root",
    "debug",
    "default-address-pools",
    "default-gateway",
    "default-gateway-v6",
    "default-network-opts",
    "deprecated-key-path",
    "exec-opts",
    "exec-root",
    "experimental",
    "features",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "graph",
    "group",
    "host-gateway-ip",
    "host-gateway-ips",
    "hosts",
    "http-proxy",
    "https-proxy",
    "icc",
    "init-path",
    "ip",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "labels",
    "live-restore",
    "log-format",
    "log-level",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "metrics-addr",
    "min-api-version",
    "mtu",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resources",
    "oom-score-adjust",
    "pidfile",
    "proxies",
    "raw-logs",
    "selinux-enabled",
    "shutdown-timeout",
    "storage-driver",
    "storage-opts",
    "swarm-default-advertise-addr",
    "tls",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsverify",
    "userland-proxy",
    "userland-proxy-path",
    "validate",
];

impl Daemon {
    /// The file; `None` where there is none.
    ///
    /// # Errors
    /// It cannot be read, is no JSON, has a value of another kind than docker wants, or a key that docker does not know.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        for file in [paths.config.join("daemon.json"), PathBuf::from("/etc/docker/daemon.json")] {
            let Some(daemon) = atomic::read_json::<Self>(&file)? else { continue };
            if let Some(key) = daemon.others.keys().find(|key| !OTHERS.contains(&key.as_str())) {
                fault!(
                    Usage,
                    "{}: the following directives don't match any configuration option: {key}",
                    file.display()
                );
            }
            return Ok(Some(daemon));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Option<Daemon>> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("daemon.json"), text).unwrap();
        let at = dir.path().to_owned();
        Daemon::load(&Paths { state: at.clone(), store: at.clone(), config: at })
    }

    #[test]
    fn what_docker_knows_is_read_and_what_it_does_not_is_named() {
        let daemon = load(
            r#"{"log-driver": "local", "log-opts": {"max-size": "1m"}, "bip": "10.0.0.1/24", "dns": ["9.9.9.9"],
            "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 64, "Hard": 128}},
            "runtimes": {"other": {"path": "/x", "runtimeArgs": ["--debug"]}}}"#,
        );
        let daemon = daemon.unwrap().unwrap();
        assert_eq!(daemon.log_driver.as_deref(), Some("local"));
        assert_eq!(
            (daemon.default_ulimits["nofile"].soft, daemon.others["bip"].as_str()),
            (64, Some("10.0.0.1/24"))
        );
        assert_eq!(daemon.runtimes["other"].runtime_args, ["--debug"]);
        for (text, word) in [
            (r#"{"insecure-registeries": ["a:5000"]}"#, "insecure-registeries"),
            (r#"{"insecure-registries": "a:5000"}"#, "daemon.json"),
            ("{", "daemon.json"),
        ] {
            let err = format!("{:#}", load(text).unwrap_err());
            assert!(err.contains(word) && err.contains("daemon.json"), "{err}");
        }
    }
}
