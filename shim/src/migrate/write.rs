//! `shim checkpoint --export`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use contracts::container::{Container, Status};

use super::{IMAGES, MEMORY, Recompress, describe};
use crate::container::checkpoints::Note;
use crate::container::{Store, rootfs};
use crate::copy::archive::{self, Place};
use crate::copy::owners::Owners;
use crate::{tools, volume};

/// What an archive is to hold.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The archive.
    pub file: &'a Path,
    /// `none`, `gzip` or `zstd`.
    pub compress: &'a str,
    /// Not the changes of the container's files.
    pub ignore_rootfs: bool,
    /// Not its volumes.
    pub ignore_volumes: bool,
    /// Memory alone.
    pub memory: bool,
}

/// The container and what is known of its checkpoint; the caller holds its lock.
pub struct Subject<'a> {
    /// The container.
    pub record: &'a Container,
    /// Its state at the dump.
    pub status: &'a Status,
    /// CRIU's images.
    pub images: &'a Path,
    /// For the restore.
    pub note: &'a Note,
}

/// Writes the archive; it has its name once it is whole.
pub fn write(store: &Store, subject: &Subject<'_>, wish: &Wish<'_>) -> Result<()> {
    let partial = beside(wish.file);
    let what = || format!("export the checkpoint to {}", wish.file.display());
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .with_context(what)?;
    let done = fill(store, subject, wish, file.try_clone().with_context(what)?)
        .and_then(|()| file.sync_all().context("write it to the disk"))
        .and_then(|()| fs::rename(&partial, wish.file).context("give it its name"));
    done.inspect_err(|_| drop(fs::remove_file(&partial))).with_context(what)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(".partial");
    file.with_file_name(name)
}

fn fill(store: &Store, subject: &Subject<'_>, wish: &Wish<'_>, file: File) -> Result<()> {
    let mut packer = Recompress::start(wish.compress, Stdio::piped(), file.into())?;
    let input = packer.child.stdin.take().context("reach imgtool")?;
    let mut tar = tar::Builder::new(input);
    let written = entries(store, subject, wish, &mut tar).and_then(|()| {
        drop(tar.into_inner().context("write the archive")?);
        Ok(())
    });
    // What imgtool says is why it could not be written.
    packer.end()?;
    written
}

fn entries(
    store: &Store,
    subject: &Subject<'_>,
    wish: &Wish<'_>,
    tar: &mut tar::Builder<impl Write>,
) -> Result<()> {
    let record = subject.record;
    let spec = fs::read(store.bundle(&record.id).join("config.json")).context("read config.json")?;
    let document = describe::config(record, subject.note);
    text(tar, "config.dump", &serde_json::to_vec_pretty(&document)?)?;
    text(tar, "spec.dump", &spec)?;
    text(tar, "network.status", &serde_json::to_vec(&describe::addresses(subject.status.network.as_ref()))?)?;
    let images = Place::root(subject.images, &record.name)?;
    let inside = if wish.memory { MEMORY } else { IMAGES };
    archive::pack_into(tar, &images, Path::new("/."), Path::new(inside), Owners::Ours)?;
    if wish.memory {
        return Ok(());
    }
    if record.host_config.log_config.driver == "json-file"
        && let Ok(mut log) = File::open(store.log(&record.id))
    {
        add(tar, "ctr.log", &mut log)?;
    }
    if !wish.ignore_rootfs {
        changes(store, subject, tar)?;
    }
    for point in record.mounts.iter().filter(|point| point.kind == "volume" && !wish.ignore_volumes) {
        let place = Place::root(&volume::data(store, &point.name), &record.name)?;
        let mut scratch = scratch(store, record)?;
        archive::pack(&place, Path::new("/."), (false, Owners::Kept), &mut scratch)?;
        add(tar, &format!("volumes/{}.tar", point.name), &mut scratch)?;
    }
    Ok(())
}

/// `rootfs-diff.tar`: what was made or changed; `deleted.files`: what went.
fn changes(store: &Store, subject: &Subject<'_>, tar: &mut tar::Builder<impl Write>) -> Result<()> {
    let record = subject.record;
    let bundle = store.bundle(&record.id);
    let listed = tools::run(tools::imgtool("diff").arg(&bundle))?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let of = |letters: &[&str]| -> Vec<String> {
        let pairs = listed.lines().filter_map(|line| line.split_once(' '));
        pairs.filter(|(kind, _)| letters.contains(kind)).map(|(_, path)| path.to_owned()).collect()
    };
    let _shown = rootfs::show(subject.status, &bundle)?;
    let place = Place::root(&bundle.join("rootfs"), &record.name)?;
    let mut scratch = scratch(store, record)?;
    archive::pack_listed(&place, &of(&["A", "C"]), &mut scratch)?;
    add(tar, "rootfs-diff.tar", &mut scratch)?;
    let deleted = of(&["D"]);
    if !deleted.is_empty() {
        text(tar, "deleted.files", &serde_json::to_vec(&deleted)?)?;
    }
    Ok(())
}

/// A file without a name, on the disk of the container.
fn scratch(store: &Store, record: &Container) -> Result<File> {
    let dir = store.dir(&record.id);
    File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(&dir)
        .with_context(|| format!("make a file in {}", dir.display()))
}

fn text(tar: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> Result<()> {
    entry(tar, name, bytes.len() as u64, bytes)
}

fn add(tar: &mut tar::Builder<impl Write>, name: &str, file: &mut File) -> Result<()> {
    file.seek(SeekFrom::Start(0)).context("read what was packed")?;
    let size = file.metadata().context("read what was packed")?.len();
    entry(tar, name, size, file.take(size))
}

fn entry(tar: &mut tar::Builder<impl Write>, name: &str, size: u64, data: impl std::io::Read) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    tar.append_data(&mut header, name, data).with_context(|| format!("write {name} into the archive"))
}
