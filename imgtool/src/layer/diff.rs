//! What a directory tree or an overlay's upper directory holds, as a layer archive.
//!
//! The archive is sorted by name and holds no access times, so that equal trees give equal bytes.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, major, minor, utimensat};
use nix::sys::time::TimeSpec;
use sys::path::{Root, file_type};

use super::owner::Owners;
use super::read::{Entry, Kind};
use super::tree::{self, is_whiteout, names};
use super::whiteout;
use super::write::Writer;

/// How to read a tree.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// The tree is an overlay's upper directory over these layers, topmost first: its marks become OCI's names, and
    /// what only repeats a lower directory is left out.
    pub over: Option<&'a [Root]>,
    /// No file is newer than this (seconds since 1970): SOURCE_DATE_EPOCH. The files themselves are set back too, so
    /// that the tree stays what its archive says.
    pub newest: Option<i64>,
    /// Top names to leave out.
    pub except: &'a [&'a OsStr],
    /// Who owns the files in the archive.
    pub owners: Owners<'a>,
    /// Nothing but these paths; a directory without its content where that is not listed, too.
    pub only: Option<&'a HashSet<PathBuf>>,
}

/// What [`insert`] puts into a layer.
#[derive(Debug)]
pub struct Inserted<'a> {
    /// A file or directory: its name in an open directory. `None`: `target` is deleted.
    pub source: Option<(BorrowedFd<'a>, &'a OsStr)>,
    /// The name that it gets, relative to the root. With an empty one, a directory's content goes to the root.
    pub target: &'a Path,
    /// What lower layers have in the directory `target` is hidden.
    pub opaque: bool,
}

/// Writes everything below `root` to `output`. Tells how many bytes of content there were; `None` where there was
/// nothing at all.
///
/// # Errors
/// The tree cannot be read, `output` cannot be written.
pub fn write<W: Write>(root: BorrowedFd<'_>, options: &Options<'_>, output: W) -> Result<(W, Option<u64>)> {
    changes(root, options, &[], output)
}

/// [`write`], and deletions of the paths `gone` after it.
///
/// # Errors
/// As [`write`].
pub fn changes<W: Write>(
    root: BorrowedFd<'_>,
    options: &Options<'_>,
    gone: &[PathBuf],
    output: W,
) -> Result<(W, Option<u64>)> {
    let mut walk = Walk::new(options, output);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(root, ".", flags, Mode::empty()).context("open the root")?;
    walk.directory(root, Path::new(""))?;
    for path in gone {
        walk.delete(path)?;
    }
    Ok((walk.writer.finish()?, walk.any.then_some(walk.content)))
}

/// Writes a layer that puts one thing into an image. Tells how many bytes of content there were.
///
/// # Errors
/// The source cannot be read or has names that would mean deletions; `output` cannot be written.
pub fn insert<W: Write>(what: &Inserted<'_>, options: &Options<'_>, output: W) -> Result<(W, u64)> {
    let mut walk = Walk::new(options, output);
    walk.strict = true;
    if what.opaque {
        walk.mark(Some(what.target), whiteout::OPAQUE)?;
    }
    match what.source {
        None => walk.delete(what.target)?,
        Some((parent, name)) if what.target.as_os_str().is_empty() => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            walk.directory(openat(parent, name, flags, Mode::empty())?, Path::new(""))?;
        }
        Some((parent, name)) => walk.name(parent, name, what.target)?,
    }
    Ok((walk.writer.finish()?, walk.content))
}

struct Walk<'a, W> {
    options: &'a Options<'a>,
    writer: Writer<W>,
    /// First name of each file with several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Directories above the current one that are written only if something below them is.
    late: Vec<Entry>,
    any: bool,
    content: u64,
    /// Names that would read as deletions are refused.
    strict: bool,
}

impl<'a, W: Write> Walk<'a, W> {
    fn new(options: &'a Options<'a>, output: W) -> Self {
        Self {
            options,
            writer: Writer::new(output),
            links: HashMap::new(),
            late: Vec::new(),
            any: false,
            content: 0,
            strict: options.over.is_some() || options.only.is_some(),
        }
    }

    fn delete(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().context("the root cannot be deleted")?;
        self.mark(path.parent(), &[whiteout::PREFIX, name.as_bytes()].concat())
    }

    fn directory(&mut self, fd: OwnedFd, path: &Path) -> Result<()> {
        let at_root = path.as_os_str().is_empty();
        for name in names(&fd)? {
            if at_root && self.options.except.contains(&name.as_os_str()) {
                continue;
            }
            let below = path.join(&name);
            if self.options.only.is_some_and(|only| !only.contains(&below)) {
                continue;
            }
            self.name(fd.as_fd(), &name, &below).with_context(|| format!("read {}", below.display()))?;
        }
        Ok(())
    }

    fn name(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
        let Some(stat) = tree::stat_in(parent, name)? else { bail!("it vanished") };
        if self.options.over.is_some() && is_whiteout(&stat) {
            return self.mark(path.parent(), &[whiteout::PREFIX, name.as_bytes()].concat());
        }
        if self.strict && name.as_bytes().starts_with(whiteout::PREFIX) {
            bail!("names that begin with .wh. mean deletions in layers");
        }
        let mut entry = self.entry(parent, name, path, &stat)?;
        if entry.mtime.0 < stat.st_mtime {
            let time = TimeSpec::new(entry.mtime.0, 0);
            utimensat(parent, name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)?;
        }
        match entry.kind {
            Kind::Directory => return self.subdirectory(parent, name, path, entry),
            Kind::File if stat.st_nlink > 1 => {
                let key = (stat.st_dev, stat.st_ino);
                if let Some(first) = self.links.get(&key) {
                    (entry.kind, entry.link) = (Kind::HardLink, first.clone());
                    entry.xattrs.clear();
                    return self.write(&entry, &mut io::empty());
                }
                self.links.insert(key, entry.path.clone());
            }
            Kind::File => {}
            _ => return self.write(&entry, &mut io::empty()),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut content = File::from(openat(parent, name, flags, Mode::empty())?);
        self.write(&entry, &mut content)
    }

    fn subdirectory(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        entry: Entry,
    ) -> Result<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(parent, name, flags, Mode::empty())?;
        let below = match self.options.over {
            Some(lowers) => lower_directory(lowers, path)?,
            None => None,
        };
        // overlayfs marks every new directory opaque; only over a lower one does that say anything.
        let opaque = below.is_some() && whiteout::is_opaque(&fd)?;
        let repeats = below.is_some_and(|lower| !opaque && same_directory(&lower, &entry));
        self.late.push(entry);
        let depth = self.late.len();
        if !repeats {
            self.flush()?;
        }
        if opaque {
            self.mark(Some(path), whiteout::OPAQUE)?;
        }
        let walked = self.directory(fd, path);
        // Still waiting: nothing below it was written.
        if self.late.len() == depth {
            self.late.pop();
        }
        walked
    }

    fn mark(&mut self, directory: Option<&Path>, name: &[u8]) -> Result<()> {
        let path = directory.unwrap_or(Path::new("")).join(OsStr::from_bytes(name));
        let entry = Entry {
            path: path.into_os_string().into_vec(),
            link: Vec::new(),
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
        };
        self.write(&entry, &mut io::empty())
    }

    fn write(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.flush()?;
        self.any = true;
        if entry.kind == Kind::File {
            self.content += entry.size;
        }
        self.writer.entry(entry, content)
    }

    fn flush(&mut self) -> Result<()> {
        for entry in std::mem::take(&mut self.late) {
            self.any = true;
            self.writer.entry(&entry, &mut io::empty())?;
        }
        Ok(())
    }

    fn entry(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path, stat: &FileStat) -> Result<Entry> {
        let kind = match file_type(stat.st_mode) {
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::SymLink,
            SFlag::S_IFCHR => Kind::Char,
            SFlag::S_IFBLK => Kind::Block,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFREG => Kind::File,
            // A socket means nothing without its process; docker leaves them out too. Written as nothing would
            // shift the archive, so it becomes an empty file nowhere: the caller skips it.
            _ => bail!("a socket cannot be kept in a layer"),
        };
        let link = match kind {
            Kind::SymLink => readlinkat(parent, name)?.into_vec(),
            _ => Vec::new(),
        };
        let seconds = self.options.newest.map_or(stat.st_mtime, |newest| stat.st_mtime.min(newest));
        let (uid, gid) = self.options.owners.of(stat.st_uid, stat.st_gid)?;
        let device = match kind {
            Kind::Char | Kind::Block => {
                (u32::try_from(major(stat.st_rdev))?, u32::try_from(minor(stat.st_rdev))?)
            }
            _ => (0, 0),
        };
        Ok(Entry {
            path: path.as_os_str().as_bytes().to_vec(),
            link,
            kind,
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (seconds, 0),
            device,
            xattrs: attributes(parent, name)?,
        })
    }
}

/// The attributes that belong to the file, not to overlayfs or to us.
pub(super) fn attributes(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Vec<(OsString, Vec<u8>)>> {
    let fd = tree::open_name(parent, name)?;
    let mut found = Vec::new();
    for name in sys::xattr::list(&fd)? {
        let ours =
            name.as_bytes().starts_with(b"trusted.") || name.as_bytes().starts_with(b"security.selinux");
        if ours || whiteout::is_overlay_attribute(&name) {
            continue;
        }
        if let Some(value) = sys::xattr::get(&fd, &name)? {
            found.push((name, value));
        }
    }
    Ok(found)
}

/// The directory that the layers below show at `path`: the topmost layer that has the name decides.
fn lower_directory(lowers: &[Root], path: &Path) -> Result<Option<Lower>> {
    for lower in lowers {
        let mut at = Lower::open(lower, Path::new(""))?;
        let mut walked = PathBuf::new();
        for part in path.components() {
            walked.push(part);
            let found = match &at {
                Some(here) => here.child(part.as_os_str())?,
                None => Found::Nothing,
            };
            match found {
                Found::Directory(next) if walked == path => return Ok(Some(next)),
                Found::Directory(next) => at = Some(next),
                Found::Nothing => {
                    // An opaque directory above hides what still lower layers have.
                    if at.as_ref().is_some_and(|here| here.opaque) {
                        return Ok(None);
                    }
                    at = None;
                    break;
                }
                Found::Other => return Ok(None),
            }
        }
        drop(at);
    }
    Ok(None)
}

/// A directory of a lower layer.
struct Lower {
    fd: OwnedFd,
    stat: FileStat,
    /// It or one above it hides lower layers.
    opaque: bool,
}

enum Found {
    Directory(Lower),
    Nothing,
    Other,
}

impl Lower {
    fn open(root: &Root, path: &Path) -> Result<Option<Self>> {
        let fd = root.open_in(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())?;
        let stat = nix::sys::stat::fstat(&fd)?;
        Ok(Some(Self { opaque: whiteout::is_opaque(&fd)?, fd, stat }))
    }

    fn child(&self, name: &OsStr) -> Result<Found> {
        let Some(stat) = tree::stat_in(&self.fd, name)? else { return Ok(Found::Nothing) };
        if file_type(stat.st_mode) != SFlag::S_IFDIR {
            return Ok(Found::Other);
        }
        let fd = tree::open_name(self.fd.as_fd(), name)?;
        let opaque = self.opaque || whiteout::is_opaque(&fd)?;
        Ok(Found::Directory(Self { fd, stat, opaque }))
    }
}

/// Copied up, but not changed.
fn same_directory(lower: &Lower, entry: &Entry) -> bool {
    let stat = &lower.stat;
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (entry.mode, entry.uid, entry.gid)
        && stat.st_mtime == entry.mtime.0
}
