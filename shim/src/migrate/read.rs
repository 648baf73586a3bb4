//! `shim restore --import`: a container is made again from an archive, stopped where its checkpoint left it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::Container;
use contracts::fault;
use contracts::lock::Lock;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde_json::Value;
use sys::path::Root;

use super::{IMAGES, MEMORY, Recompress, describe, ordinary};
use crate::container::create::{self, Source};
use crate::container::{Store, checkpoints, claim, image_mounts, is_id, make_dir, names, subpaths};
use crate::copy::archive::{self, Place};
use crate::copy::owners::Owners;
use crate::volume::{self, Volume};
use crate::{events, spec};

/// As much as `config.dump` may have.
const DOCUMENT: u64 = 16 << 20;

/// How an archive is taken in.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The archive.
    pub file: &'a Path,
    /// One with the memory that this one builds on.
    pub previous: Option<&'a Path>,
    /// Another name, which also means another id and other addresses.
    pub name: Option<&'a str>,
    /// Files as in the image.
    pub ignore_rootfs: bool,
    /// Volumes as they are.
    pub ignore_volumes: bool,
    /// Not the address that the container was made with.
    pub ignore_ip: bool,
    /// Not the MAC address.
    pub ignore_mac: bool,
    /// Further flags of `runtime restore`.
    pub flags: Vec<String>,
}

/// Makes the container; its id. On failure nothing is left.
pub fn read(store: &Store, wish: &Wish<'_>) -> Result<String> {
    let what = || format!("import {}", wish.file.display());
    let config = document(wish.file).with_context(what)?;
    let Some(mut ours) = describe::ours(&config) else {
        fault!(
            Unsupported,
            "{}: its container {} was not made by shim: podman restores it",
            wish.file.display(),
            config["name"]
        );
    };
    let record = &mut ours.record;
    let old = record.id.clone();
    if !is_id(&old) {
        fault!(Usage, "{}: {old:?} is no id of a container", wish.file.display());
    }
    rename(record, &mut ours.note, wish)?;
    if store.dir(&record.id).exists() {
        fault!(
            Exists,
            "container {} exists already: remove it first, or give another name with --name",
            record.id
        );
    }
    make_dir(&store.dir(&record.id))?;
    let mut volumes = Vec::new();
    let made = Lock::exclusive(&store.dir(&record.id).join("lock")).and_then(|_lock| {
        names::check(&record.name)?;
        claim::name(store, &record.name, &record.id)?;
        fill(store, record, wish, &mut volumes)?;
        take_images(store, record, &ours.note, wish)?;
        store.save(record)
    });
    if let Err(err) = made {
        create::undo(store, record);
        for name in volumes {
            let _ = volume::remove(store, &name, Some(&record.id));
        }
        return Err(err).with_context(what);
    }
    events::container(store, record, "create", &[]);
    Ok(record.id.clone())
}

fn rename(record: &mut Container, note: &mut checkpoints::Note, wish: &Wish<'_>) -> Result<()> {
    if let Some(name) = wish.name {
        record.id = names::new_id()?;
        record.name = name.into();
        record.network.name = name.into();
        // The container it was taken from may still have them.
        note.addresses.clear();
    }
    for flag in &wish.flags {
        if !note.flags.contains(flag) {
            note.flags.push(flag.clone());
        }
    }
    for at in &mut record.network.networks {
        if wish.ignore_ip {
            (at.ip, at.ip6) = (None, None);
        }
        if wish.ignore_mac {
            at.mac = None;
        }
    }
    // A program by this name, but of this machine's: the archive does not say what is executed here.
    let runtime = record.runtime.file_name().and_then(|name| name.to_str()).unwrap_or("runtime");
    record.runtime = contracts::tool::find(runtime);
    Ok(())
}

/// `config.dump` alone.
fn document(file: &Path) -> Result<Value> {
    let mut unpacker = Recompress::reading(File::open(file)?)?;
    let output = unpacker.child.stdout.take().context("reach imgtool")?;
    let mut tar = tar::Archive::new(output);
    for entry in tar.entries().context("read the archive")? {
        let entry = entry.context("read the archive")?;
        if entry.path().is_ok_and(|path| path.file_name().is_some_and(|name| name == "config.dump")) {
            let mut text = Vec::new();
            entry.take(DOCUMENT).read_to_end(&mut text).context("read config.dump")?;
            // The rest is for later: the other end of the pipe has gone.
            drop(tar);
            let _ = unpacker.child.wait();
            return serde_json::from_slice(&text).context("read config.dump");
        }
    }
    drop(tar);
    unpacker.end()?;
    fault!(Usage, "it is no checkpoint of a container: there is no config.dump in it")
}

/// All of an archive, in a directory of the container's.
fn unpack(store: &Store, record: &Container, file: &Path, name: &str) -> Result<PathBuf> {
    let dir = store.dir(&record.id).join(name);
    make_dir(&dir)?;
    let archive = File::open(file).with_context(|| format!("open {}", file.display()))?;
    Recompress::unpack(archive, &Place::root(&dir, &record.name)?)?;
    ordinary::check_images(&dir.join(IMAGES)).and_then(|()| ordinary::check_images(&dir.join(MEMORY)))?;
    Ok(dir)
}

fn fill(store: &Store, record: &mut Container, wish: &Wish<'_>, volumes: &mut Vec<String>) -> Result<()> {
    let dir = unpack(store, record, wish.file, ".import")?;
    let bundle = store.bundle(&record.id);
    let source = Source { pull: "missing", platform: None, quiet: false };
    let report = create::make_bundle(&source, record, &bundle)?;
    if report.image_id != record.image_id {
        fault!(
            WrongState,
            "the image {} here ({}) is another one than the container's ({})",
            record.image,
            report.image_id,
            record.image_id
        );
    }
    for index in 0..record.mounts.len() {
        let point = record.mounts[index].clone();
        if point.kind == "volume" {
            take_volume(store, &dir, (&point.name, point.anonymous), wish.ignore_volumes, volumes)?;
            record.mounts[index].source = volume::data(store, &point.name).display().to_string();
        }
        if !point.subpath.is_empty() {
            record.mounts[index].source = subpaths::place(&bundle, index).display().to_string();
        }
    }
    image_mounts::make(&source, record, &bundle)?;
    let rootfs = Root::open(&bundle.join("rootfs")).context("open the root file system")?;
    if !wish.ignore_rootfs {
        take_changes(record, &dir, &bundle.join("rootfs"))?;
    }
    let mut config = spec::read(&bundle)?;
    spec::merge(store, record, &mut config, &rootfs)?;
    atomic::write_json(&bundle.join("config.json"), &config, 0o600)?;
    let log = ordinary::path(&dir, "ctr.log")?;
    log.map_or(Ok(()), |log| fs::rename(log, store.log(&record.id)).context("take the log in"))
}

fn take_volume(
    store: &Store,
    dir: &Path,
    (name, anonymous): (&str, bool),
    ignore: bool,
    made: &mut Vec<String>,
) -> Result<()> {
    contracts::name::check("volume name", name)?;
    let exists = volume::load(store, name)?.is_some();
    if exists && !ignore {
        fault!(
            Exists,
            "volume with name {name} already exists. Use --ignore-volumes to not restore content of volumes"
        );
    }
    if !exists {
        volume::ensure(store, &Volume { name: name.into(), anonymous, ..Volume::default() })?;
        made.push(name.into());
    }
    if ignore {
        return Ok(());
    }
    let packed = Path::new("volumes").join(format!("{name}.tar"));
    let Some(mut packed) = ordinary::open(dir, &packed)? else { return Ok(()) };
    let place = Place::root(&volume::data(store, name), name)?;
    archive::unpack(&mut packed, &place, Path::new("/"), Owners::Kept)
        .with_context(|| format!("fill volume {name}"))
}

/// The changes of the container's files since its image.
fn take_changes(record: &Container, dir: &Path, rootfs: &Path) -> Result<()> {
    if let Some(list) = ordinary::open(dir, Path::new("deleted.files"))? {
        let mut text = Vec::new();
        list.take(DOCUMENT).read_to_end(&mut text).context("read deleted.files")?;
        let gone: Vec<PathBuf> = serde_json::from_slice(&text).context("read deleted.files")?;
        let root = Root::open(rootfs)?;
        for path in gone {
            remove(&root, &path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    let Some(mut changed) = ordinary::open(dir, Path::new("rootfs-diff.tar"))? else { return Ok(()) };
    let place = Place::root(rootfs, &record.name)?;
    archive::unpack(&mut changed, &place, Path::new("/"), Owners::Kept).context("take the changed files in")
}

/// Removes a file or a tree of the container's; nothing there is fine.
fn remove(root: &Root, path: &Path) -> Result<()> {
    let (parent, name) = match root.parent_of(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    remove_in(&parent, &name)
}

fn remove_in(parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(err) => return Err(err.into()),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = openat(parent, name, flags, Mode::empty())?;
    for entry in nix::dir::Dir::from_fd(dir.try_clone()?)?.iter() {
        let entry = entry?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." {
            remove_in(&dir, &name)?;
        }
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

/// CRIU's images become the container's checkpoint.
fn take_images(store: &Store, record: &Container, note: &checkpoints::Note, wish: &Wish<'_>) -> Result<()> {
    let import = store.dir(&record.id).join(".import");
    let dir = checkpoints::dir(store, &record.id, None)?;
    if let Some(previous) = wish.previous {
        let unpacked = unpack(store, record, previous, ".previous")?;
        make_dir(&dir)?;
        fs::rename(unpacked.join(MEMORY), dir.join(MEMORY))
            .with_context(|| format!("{} holds no memory of a container", previous.display()))?;
        checkpoints::remove(&unpacked)?;
    }
    let partial = checkpoints::begin(&dir, checkpoints::DEFAULT, &record.name)?;
    checkpoints::remove(&partial)?;
    fs::rename(import.join(IMAGES), &partial).with_context(|| {
        format!(
            "{} holds the memory alone: give the later checkpoint, and this with --import-previous",
            wish.file.display()
        )
    })?;
    if partial.join("parent").symlink_metadata().is_ok() && !dir.join(MEMORY).exists() {
        fault!(Usage, "this checkpoint builds on an earlier one: give it with --import-previous");
    }
    checkpoints::complete(&partial, &dir, checkpoints::DEFAULT, note)?;
    checkpoints::remove(&import)
}
