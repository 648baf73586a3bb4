//! How the OCI runtime is called for one container.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use prost::Message as _;
use sys::command::with_clean_signals;

use super::proto::Any;
use super::proto::options::Options;
use super::status::{Code, Status};

/// Where runc's own shim keeps its runtime's state; `BinaryName` may change without looking elsewhere.
const ROOT: &str = "/run/containerd/runc";
/// The options in the bundle, for `delete`.
const OPTIONS: &str = "options.json";

pub struct Runtime {
    program: PathBuf,
    root: PathBuf,
    pub options: Options,
    debug: bool,
}

impl Runtime {
    pub fn new(options: Options, namespace: &str, debug: bool) -> Self {
        let program = match options.binary_name.as_str() {
            "" => contracts::tool::find("runtime"),
            name => name.into(),
        };
        let base = if options.root.is_empty() { ROOT } else { &options.root };
        Self { program, root: Path::new(base).join(namespace), options, debug }
    }

    /// The one that a bundle was created with.
    pub fn of_bundle(bundle: &Path, namespace: &str) -> Result<Self> {
        let options = contracts::atomic::read_json(&bundle.join(OPTIONS))?.unwrap_or_default();
        Ok(Self::new(options, namespace, false))
    }

    /// Keeps the options in the bundle, which is on a tmpfs.
    pub fn remember(&self, bundle: &Path) -> Result<()> {
        contracts::atomic::write_json_volatile(&bundle.join(OPTIONS), &self.options, 0o600)
    }

    /// The runtime with its global flags; what goes wrong stands in `log`.
    pub fn command(&self, log: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).arg("--log").arg(log).args(["--log-format", "json"]);
        if self.debug {
            command.arg("--debug");
        }
        if self.options.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        // Ours alone.
        command.env_remove("TTRPC_ADDRESS").env_remove("GRPC_ADDRESS").env_remove("MAX_SHIM_VERSION");
        // containerd's: a runtime would wait until the container says that it is ready.
        command.env_remove("NOTIFY_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        with_clean_signals(&mut command);
        command
    }

    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// Options as a client gives them: runc's message; or, from CRI and Docker to a runtime that they do not know, TOML.
pub fn options(any: Option<&Any>) -> Result<Options> {
    let Some(any) = any.filter(|any| !any.value.is_empty()) else { return Ok(Options::default()) };
    if any.type_url.ends_with("containerd.runc.v1.Options") {
        return Options::decode(any.value.as_slice()).context("read the runtime's options");
    }
    if any.type_url.ends_with("runtimeoptions.v1.Options") {
        let generic = Generic::decode(any.value.as_slice()).context("read the runtime's options")?;
        let text = if generic.config_body.is_empty() && !generic.config_path.is_empty() {
            fs::read_to_string(&generic.config_path)
                .with_context(|| format!("read {}", generic.config_path))?
        } else {
            String::from_utf8_lossy(&generic.config_body).into_owned()
        };
        return toml::from_str(&text).context("read the runtime's options");
    }
    Err(Status::error(Code::InvalidArgument, format!("options of the unknown type {}", any.type_url)))
}

/// `runtimeoptions.v1.Options`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Generic {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    config_path: String,
    #[prost(bytes = "vec", tag = "3")]
    config_body: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_both_languages() {
        let ours =
            Options { binary_name: "/usr/bin/crun".into(), systemd_cgroup: true, ..Options::default() };
        let any = Any { type_url: "containerd.runc.v1.Options".into(), value: ours.encode_to_vec() };
        assert_eq!(options(Some(&any)).unwrap(), ours);
        let body = b"BinaryName = \"/usr/bin/crun\"\nSystemdCgroup = true\n".to_vec();
        let generic = Generic { config_body: body, ..Generic::default() };
        let any = Any { type_url: "runtimeoptions.v1.Options".into(), value: generic.encode_to_vec() };
        assert_eq!(options(Some(&any)).unwrap(), ours);
        assert!(options(Some(&Any { type_url: "x".into(), value: vec![1] })).is_err());
        assert_eq!(options(None).unwrap(), Options::default());
    }
}
