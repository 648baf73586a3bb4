//! `RUN --mount`: what a step sees for its own time only.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::{Mode, SFlag, fstat};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sys::overlay::Overlay;
use sys::path::file_type;

use super::copy::{Copier, Manner};
use super::ignore::Ignore;
use super::select::Tree;
use super::work::Work;
use super::{Builder, state::State};
use crate::store::digest::Digest;

/// A `--mount`, its variables expanded.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    kind: String,
    /// Where, inside.
    pub target: String,
    /// What, inside its source.
    source: String,
    /// Stage, image or named context.
    pub from: Option<String>,
    id: String,
    sharing: String,
    writable: Option<bool>,
    required: bool,
    mode: Option<u32>,
    uid: u32,
    gid: u32,
    size: Option<String>,
    env: Option<String>,
}

/// Mounts made ready for one step.
#[derive(Debug, Default)]
pub struct Ready {
    /// For config.json.
    pub mounts: Vec<Value>,
    /// Targets, and whether they are directories.
    pub targets: Vec<(PathBuf, bool)>,
    /// Variables that carry secrets or the agent's socket.
    pub env: Vec<String>,
    /// Locks of caches that are used alone.
    _locks: Vec<File>,
}

impl Spec {
    /// Reads `type=cache,target=/c,…`.
    ///
    /// # Errors
    /// An unknown key or type, a missing target.
    pub fn parse(text: &str, state: &State) -> Result<Self> {
        let mut spec = Self { kind: "bind".into(), ..Self::default() };
        for field in text.split(',') {
            let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
            let value = value.map(|value| state.expand(value)).transpose()?;
            let needed = || value.clone().with_context(|| format!("--mount {key} needs a value"));
            let switch = || match value.as_deref() {
                None | Some("true" | "1") => Ok(true),
                Some("false" | "0") => Ok(false),
                Some(other) => bail!("invalid value for --mount {key}: {other}"),
            };
            let number = || -> Result<u32> { needed()?.parse().with_context(|| format!("--mount {key}")) };
            match key.to_ascii_lowercase().as_str() {
                "type" => spec.kind = needed()?.to_ascii_lowercase(),
                "target" | "dst" | "destination" => spec.target = needed()?,
                "source" | "src" => spec.source = needed()?,
                "from" => spec.from = Some(needed()?),
                "id" => spec.id = needed()?,
                "sharing" => spec.sharing = needed()?,
                "rw" | "readwrite" => spec.writable = Some(switch()?),
                "ro" | "readonly" => spec.writable = Some(!switch()?),
                "required" => spec.required = switch()?,
                "mode" => spec.mode = Some(u32::from_str_radix(&needed()?, 8).context("--mount mode")?),
                "uid" => spec.uid = number()?,
                "gid" => spec.gid = number()?,
                "size" => spec.size = Some(needed()?),
                "env" => spec.env = Some(needed()?),
                _ => bail!("unexpected key '{key}' in '{field}'"),
            }
        }
        spec.check(state)
    }

    fn check(mut self, state: &State) -> Result<Self> {
        match self.kind.as_str() {
            "bind" | "cache" | "tmpfs" => ensure!(!self.target.is_empty(), "--mount needs a target"),
            "secret" => {
                if self.id.is_empty() {
                    let from = if self.source.is_empty() { &self.target } else { &self.source };
                    self.id = Path::new(from).file_name().unwrap_or_default().to_string_lossy().into_owned();
                }
                ensure!(!self.id.is_empty(), "--mount type=secret needs an id");
                if self.target.is_empty() && self.env.is_none() {
                    self.target = format!("/run/secrets/{}", self.id);
                }
            }
            "ssh" => {
                if self.target.is_empty() {
                    self.target = "/run/buildkit/ssh_agent.0".into();
                }
            }
            other => bail!("unsupported mount type \"{other}\""),
        }
        ensure!(
            matches!(self.sharing.as_str(), "" | "shared" | "private" | "locked"),
            "unsupported sharing value \"{}\"",
            self.sharing
        );
        if !self.target.is_empty() {
            let path = Path::new(&state.workdir()).join(&self.target);
            let clean = crate::layer::tree::clean(path.to_string_lossy().as_bytes())?;
            ensure!(!clean.as_os_str().is_empty(), "invalid mount target \"{}\"", self.target);
            self.target = format!("/{}", clean.display());
        }
        Ok(self)
    }

    /// What of it the cache key must hold: the content of bind sources, the shape of the rest, never a secret.
    ///
    /// # Errors
    /// The source is not there.
    pub fn key(&self, builder: &Builder<'_>) -> Result<Value> {
        let mut content = None;
        if self.kind == "bind" {
            let tree = builder.tree(self.from.as_deref())?;
            let mut hash = Sha256::new();
            for selected in tree.select(&[self.source_path()], false)? {
                tree.digest(&selected, &Ignore::default(), &mut hash)?;
            }
            content = Some(hash.finalize().to_vec());
        }
        Ok(json!([
            self.kind,
            self.target,
            self.source,
            self.id,
            self.env,
            self.mode,
            self.uid,
            self.gid,
            content
        ]))
    }

    fn source_path(&self) -> String {
        if self.source.is_empty() { "/".into() } else { self.source.clone() }
    }

    fn option_mount(&self, source: &Path, writable: bool) -> Value {
        let access = if writable { "rw" } else { "ro" };
        json!({"destination": self.target, "type": "bind", "source": source, "options": ["rbind", "rprivate", access]})
    }
}

impl Builder<'_> {
    /// Makes the mounts of a step ready below its work directory.
    ///
    /// # Errors
    /// A source or a required secret is missing.
    pub(super) fn ready(&self, specs: &[Spec], work: &Work) -> Result<Ready> {
        let mut ready = Ready::default();
        for (at, spec) in specs.iter().enumerate() {
            let place = work.path().join("mounts").join(at.to_string());
            let made = match spec.kind.as_str() {
                "bind" => self.bind(spec, &place, &mut ready),
                "cache" => self.cache_mount(spec, &place, &mut ready),
                "tmpfs" => tmpfs(spec, &mut ready),
                "secret" => self.secret(spec, work, &place, &mut ready),
                _ => self.agent(spec, &mut ready),
            };
            made.with_context(|| format!("--mount type={} {}", spec.kind, spec.target))?;
        }
        Ok(ready)
    }

    fn bind(&self, spec: &Spec, place: &Path, ready: &mut Ready) -> Result<()> {
        let tree = self.tree(spec.from.as_deref())?;
        let selected = tree.select(&[spec.source_path()], false)?;
        let [selected] = selected.as_slice() else { bail!("\"{}\": not found", spec.source) };
        let source = place.join("source");
        let writable = spec.writable == Some(true);
        if tree.ignore.is_empty() {
            // By descriptor: the path could be exchanged for a link meanwhile (CVE-2024-1753).
            let fd = tree.root.open_in(&selected.path, OFlag::O_PATH, Mode::empty())?;
            make_target(&source, selected.directory)?;
            let from = format!("/proc/self/fd/{}", fd.as_raw_fd());
            nix::mount::mount(Some(from.as_str()), &source, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        } else {
            copy_out(&tree, &source, selected)?;
        }
        let directory = file_type(fstat(File::open(&source)?.as_fd())?.st_mode) == SFlag::S_IFDIR;
        let shown = if writable && directory { throw_away(&source, place)? } else { source };
        ready.mounts.push(spec.option_mount(&shown, writable && directory));
        ready.targets.push((spec.target.clone().into(), directory));
        Ok(())
    }

    fn cache_mount(&self, spec: &Spec, place: &Path, ready: &mut Ready) -> Result<()> {
        let id = if spec.id.is_empty() { &spec.target } else { &spec.id };
        // Hashed: an id is a name, never a path (CVE-2024-9675).
        let dir = self.store.paths().store.join("build").join("mounts").join(Digest::of(id.as_bytes()).hex());
        let dir = if spec.sharing == "private" { place.join("private") } else { dir };
        if !dir.is_dir() {
            fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
            if let Some(from) = &spec.from {
                let tree = self.tree(Some(from))?;
                for selected in tree.select(&[spec.source_path()], false)? {
                    copy_out(&tree, &dir, &selected)?;
                }
            }
            chown(&dir, Some(spec.uid), Some(spec.gid))?;
            fs::set_permissions(&dir, fs::Permissions::from_mode(spec.mode.unwrap_or(0o755)))?;
        }
        if spec.sharing == "locked" {
            let held = File::open(&dir)?;
            held.lock().context("lock the cache")?;
            ready._locks.push(held);
        }
        ready.mounts.push(spec.option_mount(&dir, spec.writable != Some(false)));
        ready.targets.push((spec.target.clone().into(), true));
        Ok(())
    }

    fn secret(&self, spec: &Spec, work: &Work, place: &Path, ready: &mut Ready) -> Result<()> {
        let Some(secret) = self.options.secrets.get(&spec.id) else {
            ensure!(!spec.required, "secret {}: not found", spec.id);
            return Ok(());
        };
        let content = secret.read().with_context(|| format!("secret {}", spec.id))?;
        if let Some(name) = &spec.env {
            let text = String::from_utf8(content.clone())
                .with_context(|| format!("secret {} is no text", spec.id))?;
            ready.env.push(format!("{name}={text}"));
        }
        if spec.target.is_empty() {
            return Ok(());
        }
        // On a tmpfs of this mount namespace: never on a disk, gone with the build whatever happens.
        let memory = work.path().join("secrets");
        if !memory.is_dir() {
            fs::create_dir(&memory)?;
            nix::mount::mount(
                Some("tmpfs"),
                &memory,
                Some("tmpfs"),
                MsFlags::MS_NODEV,
                Some("mode=0700,size=8m"),
            )?;
        }
        let name = place.file_name().context("secret without a place")?;
        let path = memory.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&content)?;
        chown(&path, Some(spec.uid), Some(spec.gid))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(spec.mode.unwrap_or(0o400)))?;
        ready.mounts.push(spec.option_mount(&path, false));
        ready.targets.push((spec.target.clone().into(), false));
        Ok(())
    }

    fn agent(&self, spec: &Spec, ready: &mut Ready) -> Result<()> {
        let id = if spec.id.is_empty() { "default" } else { &spec.id };
        let Some(socket) = self.options.ssh.get(id) else {
            ensure!(!spec.required, "ssh agent {id}: give it with --ssh {id}");
            return Ok(());
        };
        ready.mounts.push(spec.option_mount(socket, true));
        ready.targets.push((spec.target.clone().into(), false));
        ready.env.push(format!("SSH_AUTH_SOCK={}", spec.target));
        Ok(())
    }
}

fn tmpfs(spec: &Spec, ready: &mut Ready) -> Result<()> {
    let mut options = vec!["nosuid".to_owned(), "nodev".into(), "mode=1777".into()];
    if let Some(size) = &spec.size {
        ensure!(size.bytes().all(|byte| byte.is_ascii_alphanumeric()), "invalid size {size}");
        options.push(format!("size={}", size.to_ascii_lowercase().trim_end_matches('b')));
    }
    ready
        .mounts
        .push(json!({"destination": spec.target, "type": "tmpfs", "source": "tmpfs", "options": options}));
    ready.targets.push((spec.target.clone().into(), true));
    Ok(())
}

fn make_target(path: &Path, directory: bool) -> Result<()> {
    if directory {
        fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))
    } else {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(path).map(drop).with_context(|| format!("make {}", path.display()))
    }
}

fn copy_out(tree: &Tree, to: &Path, selected: &super::select::Selected) -> Result<()> {
    let parent = to.parent().context("no place to copy to")?;
    fs::create_dir_all(parent)?;
    let root = sys::path::Root::open(parent)?;
    let name = to.file_name().context("no name to copy to")?;
    let manner = Manner::default();
    Copier::new(tree, &root, &manner).copy(selected, &Path::new("/").join(name), false)
}

/// A writable view of a directory whose changes are dropped.
fn throw_away(source: &Path, place: &Path) -> Result<PathBuf> {
    let [upper, work, view] = ["upper", "work", "view"].map(|name| place.join(name));
    for path in [&upper, &work, &view] {
        fs::create_dir_all(path)?;
    }
    let overlay =
        Overlay { lowers: &[source], upper: Some((&upper, &work)), volatile: true, user_xattr: false };
    sys::overlay::mount(&overlay, &view).context("mount a writable view")?;
    Ok(view)
}
