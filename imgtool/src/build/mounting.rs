//! Making the mounts of a RUN step ready, and what is thrown away with it.

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
use sys::overlay::Overlay;
use sys::path::file_type;

use super::Builder;
use super::copy::{Copier, Manner};
use super::mounts::Spec;
use super::select::Tree;
use super::work::Work;
use crate::store::digest::Digest;

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
        // Caches of other owners, or made of something else, are others.
        let name = json!([id, spec.uid, spec.gid, spec.mode, spec.from, spec.source]).to_string();
        // Hashed: an id is a name, never a path (CVE-2024-9675).
        let name = Digest::of(name.as_bytes()).hex().to_owned();
        let root = self.store.paths().store.join("build").join("mounts");
        let (dir, lock) = cache_directory(&root, &name, &spec.sharing)?;
        ready._locks.push(lock);
        if !dir.is_dir() {
            let new = place.join("new");
            fs::create_dir_all(&new).with_context(|| format!("make {}", new.display()))?;
            if let Some(from) = &spec.from {
                let tree = self.tree(Some(from))?;
                for selected in tree.select(&[spec.source_path()], false)? {
                    copy_out(&tree, &new, &selected)?;
                }
            }
            chown(&new, Some(spec.uid.unwrap_or(0)), Some(spec.gid.unwrap_or(0)))?;
            fs::set_permissions(&new, fs::Permissions::from_mode(spec.mode.unwrap_or(0o755)))?;
            // Whole, or not there: another step may be making the same one.
            match fs::rename(&new, &dir) {
                Err(_) if dir.is_dir() => {}
                other => other.with_context(|| format!("make {}", dir.display()))?,
            }
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
        chown(&path, Some(spec.uid.unwrap_or(0)), Some(spec.gid.unwrap_or(0)))?;
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

/// The directory of a cache and the lock that says how it is used: by many, by one after the other (`locked`), or by
/// one each (`private`: the first that is free).
fn cache_directory(root: &Path, name: &str, sharing: &str) -> Result<(PathBuf, File)> {
    fs::create_dir_all(root).with_context(|| format!("make {}", root.display()))?;
    for number in 0.. {
        let own = if number == 0 { name.to_owned() } else { format!("{name}.{number}") };
        let path = root.join(format!("{own}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("open {}", path.display()))?;
        match sharing {
            "locked" => lock.lock().context("lock the cache")?,
            "private" if lock.try_lock().is_err() => continue,
            "private" => {}
            _ => lock.lock_shared().context("lock the cache")?,
        }
        return Ok((root.join(own), lock));
    }
    bail!("too many private caches")
}

fn tmpfs(spec: &Spec, ready: &mut Ready) -> Result<()> {
    let mut options = vec!["nosuid".to_owned(), "nodev".into(), "mode=1777".into()];
    if let Some(size) = spec.size {
        ensure!(size >= 0, "invalid size {size}");
        options.push(format!("size={size}"));
    }
    if spec.writable == Some(false) {
        options.push("ro".into());
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
