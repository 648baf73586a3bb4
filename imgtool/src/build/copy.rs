//! Copying selected files into a rootfs, on descriptors on both sides.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, futimens, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use sys::path::{Root, file_type};

use super::chmod::Chmod;
use super::directories::{self, Dress, MOST_LINKS};
use super::ignore::Ignore;
use super::select::{self, Selected, Tree};
use crate::layer::{tree, whiteout};

/// How to copy.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// Owner of all that is made.
    pub owner: Option<(u32, u32)>,
    /// Change of modes.
    pub chmod: Option<Chmod>,
    /// What to leave out, relative to each source.
    pub exclude: Ignore,
    /// Times of directories made on the way, in seconds since 1970.
    pub now: Option<i64>,
}

/// A copy into one rootfs.
pub struct Copier<'a> {
    from: &'a Tree,
    to: &'a Root,
    manner: &'a Manner,
    links: HashMap<(u64, u64), (OwnedFd, OsString)>,
}

/// The end of a destination path.
pub struct Place {
    directory: OwnedFd,
    name: OsString,
}

impl<'a> Copier<'a> {
    /// Copies out of `from` into `to`.
    pub fn new(from: &'a Tree, to: &'a Root, manner: &'a Manner) -> Self {
        Self { from, to, manner, links: HashMap::new() }
    }

    /// Copies `source` to `dest` (absolute in the rootfs); `into`: `dest` is a directory to put it into.
    ///
    /// # Errors
    /// A file would replace a directory or the other way round; no space.
    pub fn copy(&mut self, source: &Selected, dest: &Path, into: bool) -> Result<()> {
        self.parents(source, dest)?;
        let dest = dest.join(&source.parents);
        let fd = self.from.root.open_in(&source.path, OFlag::O_PATH, Mode::empty())?;
        let stat = fstat(&fd)?;
        if source.directory {
            let (target, made) = self.directory(&dest)?;
            let dir =
                openat(&fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            self.children(&dir, &target, &source.path, Path::new(""))?;
            if made {
                set_time(target.as_fd(), &stat)?;
            }
            return Ok(());
        }
        let place = self.file_place(&dest, &source.name, into || !source.parents.as_os_str().is_empty())?;
        self.one(&fd, &stat, place.directory.as_fd(), &place.name)
    }

    /// Where a file goes: below `dest` where that is (or is to be) a directory, else to `dest` itself.
    ///
    /// # Errors
    /// The parent directories cannot be made.
    pub fn file_place(&self, dest: &Path, name: &Path, into: bool) -> Result<Place> {
        let probe = self.to.open_in(dest, OFlag::O_PATH, Mode::empty());
        let exists =
            probe.is_ok_and(|fd| fstat(&fd).is_ok_and(|stat| file_type(stat.st_mode) == SFlag::S_IFDIR));
        if into || exists {
            let (directory, _) = self.directory(dest)?;
            return Ok(Place { directory, name: name.as_os_str().to_owned() });
        }
        self.through_links(dest.to_owned())
    }

    /// Where writing to `dest` would end: a link there is followed inside the rootfs, to where it points if that is
    /// missing.
    fn through_links(&self, mut dest: PathBuf) -> Result<Place> {
        for _ in 0..MOST_LINKS {
            let parent = dest.parent().unwrap_or(Path::new("/"));
            let (directory, _) = self.directory(parent)?;
            let name = dest.file_name().context("the destination has no name")?.to_owned();
            match readlinkat(&directory, name.as_os_str()) {
                // An absolute target replaces the whole path; the kernel keeps it below the root.
                Ok(target) => dest = parent.join(target),
                Err(Errno::ENOENT | Errno::EINVAL) => return Ok(Place { directory, name }),
                Err(err) => return Err(err).with_context(|| format!("read {}", dest.display())),
            }
        }
        bail!("too many links at {}", dest.display())
    }

    /// Makes a directory with its parents (mode 0755, the copy's owner). Says whether the last one is new.
    fn directory(&self, path: &Path) -> Result<(OwnedFd, bool)> {
        let dress = Dress { owner: self.manner.owner.unwrap_or((0, 0)), time: self.manner.now };
        directories::make(self.to, path, dress)
    }

    /// With `--parents`, the directories above a source are copied too: as they are there.
    fn parents(&self, source: &Selected, dest: &Path) -> Result<()> {
        let mut from = source.path.clone();
        // What `parents` leaves out of the path is the part before the pivot.
        let kept = source.parents.components().count();
        if !source.directory {
            from.pop();
        }
        let skipped = from.components().count().saturating_sub(kept);
        let (mut at, mut to) = (PathBuf::new(), dest.to_owned());
        for (depth, part) in from.components().enumerate() {
            at.push(part);
            if depth < skipped {
                continue;
            }
            to.push(part);
            let (target, made) = self.directory(&to)?;
            if made {
                let fd = self.from.root.open_in(&at, OFlag::O_PATH, Mode::empty())?;
                let stat = fstat(&fd)?;
                self.dress(target.as_fd(), &fd, &stat)?;
                set_time(target.as_fd(), &stat)?;
            }
        }
        Ok(())
    }

    fn children(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, relative: &Path) -> Result<()> {
        for name in select::list(from)? {
            let (below, inner) = (path.join(&name), relative.join(&name));
            if !self.from.is_shown(&below) || self.manner.exclude.hides(&inner.to_string_lossy()) {
                continue;
            }
            let fd = tree::open_name(from.as_fd(), &name)?;
            let stat = fstat(&fd)?;
            if file_type(stat.st_mode) != SFlag::S_IFDIR {
                self.one(&fd, &stat, to.as_fd(), &name)
                    .with_context(|| format!("copy {}", below.display()))?;
                continue;
            }
            match tree::make_directory(to.as_fd(), &name, Mode::from_bits_truncate(0o755)) {
                Err(Errno::EEXIST) => bail!("cannot copy to non-directory: {}", below.display()),
                other => other?,
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let target = openat(to, name.as_os_str(), flags, Mode::empty())?;
            self.dress(target.as_fd(), &fd, &stat)?;
            let dir = openat(&fd, ".", flags, Mode::empty())?;
            self.children(&dir, &target, &below, &inner)?;
            set_time(target.as_fd(), &stat)?;
        }
        Ok(())
    }

    /// Copies something that is no directory.
    fn one(&mut self, fd: &OwnedFd, stat: &FileStat, to: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        if name.as_bytes().starts_with(whiteout::PREFIX) {
            bail!("{}: names that begin with .wh. mean deletions in layers", name.display());
        }
        match unlinkat(to, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => bail!("cannot replace directory {} with a file", name.display()),
            Err(err) => return Err(err).with_context(|| format!("replace {}", name.display())),
        }
        let kind = file_type(stat.st_mode);
        if kind == SFlag::S_IFREG && stat.st_nlink > 1 {
            if let Some((first_dir, first)) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return Ok(linkat(first_dir, first.as_os_str(), to, name, AtFlags::empty())?);
            }
            let held = (to.try_clone_to_owned()?, name.to_owned());
            self.links.insert((stat.st_dev, stat.st_ino), held);
        }
        match kind {
            SFlag::S_IFREG => {
                let flags =
                    OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let target = openat(to, name, flags, Mode::from_bits_truncate(0o600))?;
                let mut target = std::fs::File::from(target);
                io::copy(&mut select::reopen(fd)?, &mut target).context("copy content")?;
                self.dress(target.as_fd(), fd, stat)?;
                set_time(target.as_fd(), stat)
            }
            SFlag::S_IFLNK => {
                symlinkat(readlinkat(fd, "")?.as_os_str(), to, name)?;
                self.own_name(to, name, stat)
            }
            SFlag::S_IFIFO | SFlag::S_IFCHR | SFlag::S_IFBLK => {
                mknodat(to, name, kind, Mode::empty(), stat.st_rdev)?;
                let mode = self.mode(stat);
                self.own_name(to, name, stat)?;
                let target = tree::in_directory(to, name);
                Ok(std::fs::set_permissions(target, std::os::unix::fs::PermissionsExt::from_mode(mode))?)
            }
            _ => Ok(()),
        }
    }

    fn mode(&self, stat: &FileStat) -> u32 {
        let mode = stat.st_mode & 0o7777;
        let directory = file_type(stat.st_mode) == SFlag::S_IFDIR;
        self.manner.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, directory))
    }

    /// Owner, attributes, mode, in the order that keeps set-id bits and file capabilities.
    fn dress(&self, target: BorrowedFd<'_>, source: &OwnedFd, stat: &FileStat) -> Result<()> {
        self.own(target, stat.st_uid, stat.st_gid)?;
        for name in sys::xattr::list(source)? {
            let bytes = name.as_bytes();
            if bytes.starts_with(b"trusted.")
                || bytes.starts_with(b"security.selinux")
                || whiteout::is_overlay_attribute(&name)
            {
                continue;
            }
            if let Some(value) = sys::xattr::get(source, &name)? {
                match sys::xattr::set(target, &name, &value) {
                    Err(err) if err.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {}
                    other => other.with_context(|| format!("set attribute {}", name.display()))?,
                }
            }
        }
        Ok(fchmod(target, tree::permissions(self.mode(stat)))?)
    }

    fn owner(&self, uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
        let own = if self.from.owners { (uid, gid) } else { (0, 0) };
        let (uid, gid) = self.manner.owner.unwrap_or(own);
        (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
    }

    fn own(&self, target: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = self.owner(uid, gid);
        fchown(target, uid, gid).context("chown")
    }

    fn own_name(&self, to: BorrowedFd<'_>, name: &OsStr, stat: &FileStat) -> Result<()> {
        let (uid, gid) = self.owner(stat.st_uid, stat.st_gid);
        fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")?;
        let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
        Ok(utimensat(to, name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)?)
    }
}

fn set_time(target: BorrowedFd<'_>, stat: &FileStat) -> Result<()> {
    Ok(futimens(target, &TimeSpec::UTIME_OMIT, &TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))?)
}

/// A destination as an absolute path, and whether it must be a directory.
pub fn destination(text: &str, workdir: &str) -> (PathBuf, bool) {
    let into = text.ends_with('/') || text == "." || text.ends_with("/.");
    let path = Path::new(if workdir.is_empty() { "/" } else { workdir }).join(text);
    let clean = tree::clean(path.as_os_str().as_bytes()).unwrap_or_default();
    (Path::new("/").join(clean), into)
}
