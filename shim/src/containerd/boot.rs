//! `start`: a socket, a process that serves it, and its address on stdout; or the address of the pod's process, where
//! there is one already.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use prost::Message as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use sys::command::with_clean_signals;

use super::SERVE;
use super::cli::Flags;
use super::proto::Any;
use super::proto::bootstrap::{BootstrapParams, BootstrapResult};
use super::proto::options::Options;
use super::runtime;

/// Where sockets are, unless containerd says.
const SOCKETS: &str = "/run/containerd/s";
/// The version of the interface that is spoken: the task API v3 (and v2).
const VERSION: i32 = 3;
/// Containers with the same value of one of these share a process; in this order.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];
/// Longest input of a client that we are willing to hold.
const LONGEST: u64 = 10 << 20;

/// The part of config.json that matters here.
#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What `start` was told, in either language.
struct Asked {
    options: Options,
    socket_dir: PathBuf,
    /// containerd 2.3 and later read a message, not JSON.
    as_message: bool,
}

/// Returns what goes to stdout.
pub fn start(flags: &Flags) -> Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin().take(LONGEST).read_to_end(&mut input).context("read stdin")?;
    let asked = Asked::of(&input, flags)?;
    let spec: Spec = serde_json::from_slice(&fs::read("config.json").context("read config.json")?)
        .context("read config.json")?;
    let group = GROUPS.iter().find_map(|name| spec.annotations.get(*name)).unwrap_or(&flags.id);
    let path = asked.socket_dir.join(socket_name(&flags.address, &flags.namespace, group));
    if let Some(listener) = listen(&path)?
        && let Err(err) = serve(flags, listener, &asked.options)
    {
        let _ = fs::remove_file(&path);
        return Err(err);
    }
    let address = format!("unix://{}", path.display());
    if asked.as_message {
        let result = BootstrapResult { version: VERSION, address, protocol: "ttrpc".into() };
        return Ok(result.encode_to_vec());
    }
    // containerd 1.6 knows the address alone.
    if std::env::var_os("MAX_SHIM_VERSION").is_none() {
        return Ok(address.into_bytes());
    }
    let result = serde_json::json!({ "version": VERSION, "address": address, "protocol": "ttrpc" });
    Ok(serde_json::to_vec(&result)?)
}

impl Asked {
    fn of(input: &[u8], flags: &Flags) -> Result<Self> {
        // The older message can look like the newer one, but not with the same names in it.
        if let Ok(params) = BootstrapParams::decode(input)
            && params.instance_id == flags.id
            && params.namespace == flags.namespace
        {
            let extensions = params.extensions.iter().filter_map(|extension| extension.value.as_ref());
            let known = |any: &&Any| any.type_url.ends_with("v1.Options");
            let options = runtime::options(extensions.clone().find(known))?;
            let socket_dir = params.socket_dir.filter(|dir| !dir.is_empty());
            let socket_dir = socket_dir.unwrap_or_else(|| SOCKETS.into()).into();
            return Ok(Self { options, socket_dir, as_message: true });
        }
        let any = Any::decode(input).context("read the runtime's options")?;
        let options = runtime::options(Some(&any))?;
        Ok(Self { options, socket_dir: SOCKETS.into(), as_message: false })
    }
}

fn socket_name(address: &str, namespace: &str, group: &str) -> String {
    let digest =
        Sha256::digest(Path::new(address).join(namespace).join(group).as_os_str().as_encoded_bytes());
    digest.iter().fold(String::new(), |name, byte| name + &format!("{byte:02x}"))
}

/// Listens; `None` where somebody serves there already.
fn listen(path: &Path) -> Result<Option<UnixListener>> {
    let what = || format!("listen on {}", path.display());
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(what)?;
    }
    for _ in 0..8 {
        match UnixListener::bind(path) {
            Ok(listener) => {
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).with_context(what)?;
                return Ok(Some(listener));
            }
            Err(err) if err.kind() == ErrorKind::AddrInUse => {
                if UnixStream::connect(path).is_ok() {
                    return Ok(None);
                }
                // What a killed process left.
                let _ = fs::remove_file(path);
            }
            Err(err) => return Err(err).with_context(what),
        }
    }
    anyhow::bail!("listen on {}: somebody else comes first every time", path.display())
}

/// Executes the process that stays: a fresh one, with the socket as its stdin.
fn serve(flags: &Flags, listener: UnixListener, options: &Options) -> Result<()> {
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.arg0("containerd-shim-bulkhead-v2").args(flags.words(SERVE));
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(log());
    command.process_group(0);
    let child = with_clean_signals(&mut command).spawn().context("start the shim's process")?;
    if let Err(err) = settle(child.id(), options) {
        let _ = i32::try_from(child.id()).map(|pid| {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        });
        return Err(err);
    }
    Ok(())
}

/// containerd reads the shim's words from this fifo. Both ways, so that it outlives a reader.
fn log() -> Stdio {
    use std::os::unix::fs::OpenOptionsExt as _;
    let log = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("log");
    log.map_or_else(|_| Stdio::null(), Stdio::from)
}

/// Its cgroup, and a likelier victim of the out-of-memory killer than containerd.
fn settle(pid: u32, options: &Options) -> Result<()> {
    let below = options.shim_cgroup.trim_start_matches('/');
    if !below.is_empty() {
        let base = Path::new("/sys/fs/cgroup");
        let join = |dir: &Path| {
            fs::write(dir.join(below).join("cgroup.procs"), pid.to_string())
                .with_context(|| format!("join cgroup {}", dir.join(below).display()))
        };
        if base.join("cgroup.controllers").exists() {
            join(base)?;
        } else {
            for entry in fs::read_dir(base)?.flatten().filter(|entry| entry.path().join(below).is_dir()) {
                join(&entry.path())?;
            }
        }
    }
    let parent = std::os::unix::process::parent_id();
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj")).unwrap_or_default();
    let score: i32 = score.trim().parse().unwrap_or(0);
    let file = format!("/proc/{pid}/oom_score_adj");
    fs::write(&file, (score + 1).min(1000).to_string()).with_context(|| format!("write {file}"))
}

#[cfg(test)]
mod tests {
    use super::super::proto::bootstrap::Extension;
    use super::*;

    #[test]
    fn told_in_both_languages() {
        let flags = Flags { id: "c".into(), namespace: "n".into(), ..Flags::default() };
        let options = Options { shim_cgroup: "/s".into(), ..Options::default() };
        let any = Any { type_url: "containerd.runc.v1.Options".into(), value: options.encode_to_vec() };
        let old = Asked::of(&any.encode_to_vec(), &flags).unwrap();
        assert!(!old.as_message && old.options == options && old.socket_dir == Path::new(SOCKETS));
        let new = BootstrapParams {
            instance_id: "c".into(),
            namespace: "n".into(),
            extensions: vec![Extension { value: Some(any) }],
            socket_dir: Some("/dir".into()),
            ..BootstrapParams::default()
        };
        let new = Asked::of(&new.encode_to_vec(), &flags).unwrap();
        assert!(new.as_message && new.options == options && new.socket_dir == Path::new("/dir"));
        assert!(!Asked::of(b"", &flags).unwrap().as_message);
        assert!(Asked::of(b"\xff\xff", &flags).is_err());
    }

    #[test]
    fn the_socket_has_the_name_that_containerd_expects() {
        let name = socket_name("/run/containerd/containerd.sock", "default", "c");
        assert_eq!(name.len(), 64);
        assert_ne!(name, socket_name("/run/containerd/containerd.sock", "default", "d"));
    }
}
