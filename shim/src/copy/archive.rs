//! `cp`'s rules: where a source lands, by docker's table of "exists, is a directory, ends in `/.`".

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use sys::path::{Root, file_type};

use super::owners::Owners;
use super::tree;

/// One side of a copy: a root that no path leaves, and what to call it.
pub struct Place {
    root: Root,
    name: Option<String>,
}

impl Place {
    /// A container's root.
    pub fn root(path: &Path, name: &str) -> Result<Self> {
        // Magic links are refused below it; this one, to a process's root, is ours.
        let root = Root::open(path).with_context(|| format!("open the files of container {name}"))?;
        Ok(Self { root, name: Some(name.into()) })
    }

    /// This machine.
    pub fn host() -> Result<Self> {
        Ok(Self { root: Root::open(Path::new("/"))?, name: None })
    }

    fn missing(&self, path: &Path) -> anyhow::Error {
        let message = match &self.name {
            Some(name) => format!("Could not find the file {} in container {name}", path.display()),
            None => format!("lstat {}: no such file or directory", path.display()),
        };
        contracts::fault::Fault::new(contracts::fault::Kind::NotFound, message).into()
    }
}

/// A found source: its parent directory, its name there, and whether only its contents are meant (`DIR/.`).
struct Source {
    parent: OwnedFd,
    name: OsString,
    stat: FileStat,
    contents: bool,
}

fn ends_in_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/.") || bytes == b"."
}

fn ends_in_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

fn find(place: &Place, path: &Path, follow: bool) -> Result<Source> {
    let mut at = path.to_owned();
    for _ in 0..40 {
        let Some(name) = at.file_name().map(OsStr::to_owned) else {
            // The root itself.
            let parent =
                place.root.open_in(Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
            let stat = fstat(&parent)?;
            return Ok(Source { parent, name: ".".into(), stat, contents: true });
        };
        let (parent, _) = place.root.parent_of(&at).map_err(|_| place.missing(path))?;
        let stat = fstatat(&parent, &*name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|_| place.missing(path))?;
        let link = file_type(stat.st_mode) == SFlag::S_IFLNK;
        if link && (follow || ends_in_dot(path) || ends_in_slash(path)) {
            let target = PathBuf::from(readlinkat(&parent, &*name)?);
            at = at.parent().unwrap_or(Path::new("/")).join(target);
            continue;
        }
        let name = if link || !follow { name } else { at.file_name().map(OsStr::to_owned).unwrap_or(name) };
        return Ok(Source { parent, name, stat, contents: ends_in_dot(path) });
    }
    bail!("{}: too many levels of symbolic links", path.display())
}

fn directory(place: &Place, path: &Path) -> Option<OwnedFd> {
    place.root.open_in(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).ok()
}

/// Copies a file or directory from one place to another.
pub fn copy(from: (&Place, &Path), to: (&Place, &Path), follow: bool, owners: Owners<'_>) -> Result<()> {
    let source = find(from.0, from.1, follow)?;
    let is_dir = file_type(source.stat.st_mode) == SFlag::S_IFDIR;
    let existing = directory(to.0, to.1);
    let base_name = from.1.file_name().map_or_else(|| source.name.clone(), OsStr::to_owned);
    match existing {
        Some(target) if source.contents => return into(&source, &target, owners),
        Some(target) => return named(&source, &target, &base_name, owners),
        None => {}
    }
    let last = to.1.file_name().map(OsStr::to_owned);
    let Some(last) = last else { return Err(to.0.missing(to.1)) };
    let parent = to.1.parent().unwrap_or(Path::new("/"));
    if ends_in_slash(to.1) && !is_dir {
        fault!(NotFound, "no such directory");
    }
    let Some(parent_fd) = directory(to.0, parent) else { return Err(to.0.missing(parent)) };
    if is_dir {
        if fstatat(&parent_fd, &*last, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok() {
            fault!(Usage, "cannot copy directory: {} is a file", to.1.display());
        }
        mkdirat(&parent_fd, &*last, Mode::from_bits_truncate(0o755))
            .with_context(|| format!("make {}", to.1.display()))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let target = openat(&parent_fd, &*last, flags, Mode::empty())?;
        return into(&source, &target, owners);
    }
    named(&source, &parent_fd, &last, owners)
}

fn named(source: &Source, target: &OwnedFd, name: &OsStr, owners: Owners<'_>) -> Result<()> {
    tree::one((&source.parent, &source.name), (target, name), owners)
}

fn into(source: &Source, target: &OwnedFd, owners: Owners<'_>) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = openat(&source.parent, &*source.name, flags, Mode::empty())
        .with_context(|| format!("open {}", source.name.display()))?;
    tree::contents(&dir, target, owners)
}

/// Writes a source as a tar: `DIR` as `DIR/…`, `DIR/.` as `./…`.
pub fn pack(
    place: &Place,
    path: &Path,
    (follow, owners): (bool, Owners<'_>),
    out: &mut impl Write,
) -> Result<()> {
    let source = find(place, path, follow)?;
    let name = if source.contents {
        PathBuf::from(".")
    } else {
        PathBuf::from(path.file_name().unwrap_or(&source.name))
    };
    let mut tar = tar::Builder::new(out);
    tar.follow_symlinks(false);
    pack_one(&mut tar, (&source.parent, &source.name), &name, owners)?;
    tar.finish().context("write the archive")
}

/// Adds `path`, a directory's contents, to an archive below `name`.
pub fn pack_into(
    tar: &mut tar::Builder<impl Write>,
    place: &Place,
    path: &Path,
    name: &Path,
    owners: Owners<'_>,
) -> Result<()> {
    let source = find(place, path, false)?;
    pack_one(tar, (&source.parent, &source.name), name, owners)
}

/// Writes a tar of exactly these files and directories; what has gone meanwhile is left out.
pub fn pack_listed(place: &Place, paths: &[String], out: &mut impl Write) -> Result<()> {
    let mut tar = tar::Builder::new(out);
    tar.follow_symlinks(false);
    for path in paths {
        let Ok(source) = find(place, Path::new(path), false) else { continue };
        let name = Path::new(path.trim_start_matches('/'));
        if file_type(source.stat.st_mode) != SFlag::S_IFDIR {
            pack_one(&mut tar, (&source.parent, &source.name), name, Owners::Kept)?;
            continue;
        }
        // Of a directory itself: what is in it is listed, too.
        let mut header = header(&source.stat, name, Owners::Kept)?;
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, name.join(""), std::io::empty())
            .with_context(|| format!("archive {path}"))?;
    }
    tar.finish().context("write the archive")
}

fn header(stat: &FileStat, path: &Path, owners: Owners<'_>) -> Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(stat.st_mode & 0o7777);
    let (uid, gid) =
        owners.id(stat.st_uid, stat.st_gid).with_context(|| format!("archive {}", path.display()))?;
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or_default());
    header.set_size(0);
    Ok(header)
}

fn pack_one(
    tar: &mut tar::Builder<impl Write>,
    at: (&OwnedFd, &OsStr),
    path: &Path,
    owners: Owners<'_>,
) -> Result<()> {
    let stat = fstatat(at.0, at.1, AtFlags::AT_SYMLINK_NOFOLLOW)
        .with_context(|| format!("stat {}", path.display()))?;
    let kind = file_type(stat.st_mode);
    let mut header = header(&stat, path, owners)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let what = || format!("archive {}", path.display());
    match kind {
        SFlag::S_IFDIR => {
            header.set_entry_type(tar::EntryType::Directory);
            let mut name = path.as_os_str().to_owned();
            name.push("/");
            tar.append_data(&mut header, name, std::io::empty()).with_context(what)?;
            let dir = openat(at.0, at.1, flags | OFlag::O_DIRECTORY, Mode::empty()).with_context(what)?;
            let mut names = Vec::new();
            for entry in nix::dir::Dir::from_fd(dir.try_clone()?)?.iter() {
                let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
            }
            names.sort();
            for name in names {
                pack_one(tar, (&dir, &name), &path.join(&name), owners)?;
            }
            return Ok(());
        }
        SFlag::S_IFLNK => {
            header.set_entry_type(tar::EntryType::Symlink);
            let target = readlinkat(at.0, at.1).with_context(what)?;
            return tar.append_link(&mut header, path, target).with_context(what);
        }
        SFlag::S_IFREG => {
            let file = File::from(openat(at.0, at.1, flags, Mode::empty()).with_context(what)?);
            let size = file.metadata()?.len();
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(size);
            // A file that grows or shrinks meanwhile still gives an archive of the promised size.
            return tar
                .append_data(&mut header, path, file.take(size).chain(std::io::empty()))
                .with_context(what);
        }
        SFlag::S_IFCHR => header.set_entry_type(tar::EntryType::Char),
        SFlag::S_IFBLK => header.set_entry_type(tar::EntryType::Block),
        SFlag::S_IFIFO => header.set_entry_type(tar::EntryType::Fifo),
        _ => return Ok(()),
    }
    header.set_device_major(libc::major(stat.st_rdev))?;
    header.set_device_minor(libc::minor(stat.st_rdev))?;
    tar.append_data(&mut header, path, std::io::empty()).with_context(what)
}

/// Unpacks a tar into an existing directory; no entry can leave it.
pub fn unpack(input: &mut impl Read, place: &Place, to: &Path, owners: Owners<'_>) -> Result<()> {
    let Some(dir) = directory(place, to) else { return Err(place.missing(to)) };
    let root = Root::from(dir);
    let mut tar = tar::Archive::new(input);
    for entry in tar.entries().context("read the archive")? {
        let mut entry = entry.context("read the archive")?;
        let path = entry.path().context("read the archive")?.into_owned();
        unpack_one(&mut entry, &root, &path, owners).with_context(|| format!("unpack {}", path.display()))?;
    }
    Ok(())
}

fn unpack_one(
    entry: &mut tar::Entry<'_, impl Read>,
    root: &Root,
    path: &Path,
    owners: Owners<'_>,
) -> Result<()> {
    let header = entry.header().clone();
    let mode = Mode::from_bits_truncate(header.mode()? & 0o7777);
    let (uid, gid) = owners.id(u32::try_from(header.uid()?)?, u32::try_from(header.gid()?)?)?;
    let owner = (Some(nix::unistd::Uid::from_raw(uid)), Some(nix::unistd::Gid::from_raw(gid)));
    let kind = header.entry_type();
    if kind.is_dir() {
        let fd = root.mkdir_all(path, Mode::from_bits_truncate(0o755))?;
        if path.file_name().is_some() {
            nix::unistd::fchownat(&fd, "", owner.0, owner.1, AtFlags::AT_EMPTY_PATH)?;
            let dir =
                openat(&fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            nix::sys::stat::fchmod(&dir, mode)?;
        }
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        root.mkdir_all(parent, Mode::from_bits_truncate(0o755))?;
    }
    let (parent, name) = root.parent_of(path)?;
    match nix::unistd::unlinkat(&parent, &*name, nix::unistd::UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::errno::Errno::ENOENT) => {}
        Err(err) => return Err(err.into()),
    }
    match kind {
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut file = File::from(openat(&parent, &*name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
            std::io::copy(entry, &mut file)?;
            nix::unistd::fchown(file.as_fd(), owner.0, owner.1)?;
            nix::sys::stat::fchmod(&file, mode)?;
        }
        tar::EntryType::Symlink => {
            let target = entry.link_name()?.context("a link without a target")?;
            nix::unistd::symlinkat(&*target, &parent, &*name)?;
            nix::unistd::fchownat(&parent, &*name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        }
        tar::EntryType::Link => {
            let target = entry.link_name()?.context("a link without a target")?.into_owned();
            let (from, from_name) = root.parent_of(&target)?;
            nix::unistd::linkat(&from, &*from_name, &parent, &*name, AtFlags::empty())?;
        }
        tar::EntryType::Fifo => nix::sys::stat::mknodat(&parent, &*name, SFlag::S_IFIFO, mode, 0)?,
        // Device nodes through cp would be a way around --device.
        other => bail!("an entry of kind {other:?} is not unpacked"),
    }
    Ok(())
}
