//! A directory tree copied on descriptors: modes, owners, times, links, devices, extended attributes.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens,
    mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, fchownat, symlinkat, unlinkat};
use sys::path::{Root, file_type};
use sys::xattr;

use super::owners::Owners;

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Copies what the image has at `inside` into the empty host directory `to`, with the directory's own owner and mode.
/// Nothing there is nothing to do.
pub fn copy_up(rootfs: &Root, inside: &Path, to: &Path, owners: Owners<'_>) -> Result<()> {
    let from = match rootfs.open_in(inside, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()) {
        Ok(fd) => fd,
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        Err(err) => return Err(err).with_context(|| format!("open {}", inside.display())),
    };
    let target: OwnedFd = File::open(to).with_context(|| format!("open {}", to.display()))?.into();
    contents(&from, &target, owners)?;
    let stat = fstat(&from)?;
    finish(&target, &stat, owners)
}

/// Copies every entry of one directory into another.
pub fn contents(from: &OwnedFd, to: &OwnedFd, owners: Owners<'_>) -> Result<()> {
    let mut entries = Dir::from_fd(from.try_clone()?).context("list a directory")?;
    for entry in entries.iter() {
        let entry = entry.context("list a directory")?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            one((from, name), (to, name), owners)?;
        }
    }
    Ok(())
}

use std::os::unix::ffi::OsStrExt as _;

/// Copies one entry, of whatever kind, over what stands in its place.
pub fn one(from: (&OwnedFd, &OsStr), to: (&OwnedFd, &OsStr), owners: Owners<'_>) -> Result<()> {
    let name = from.1;
    let stat = fstatat(from.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .with_context(|| format!("stat {}", name.display()))?;
    copy_entry(from, to, &stat, owners).with_context(|| format!("copy {}", name.display()))
}

fn copy_entry(
    from: (&OwnedFd, &OsStr),
    to: (&OwnedFd, &OsStr),
    stat: &FileStat,
    owners: Owners<'_>,
) -> Result<()> {
    let kind = file_type(stat.st_mode);
    if kind == SFlag::S_IFDIR {
        match mkdirat(to.0, to.1, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(err) => return Err(err.into()),
        }
        let source = openat(from.0, from.1, DIRECTORY, Mode::empty())?;
        let target =
            openat(to.0, to.1, DIRECTORY, Mode::empty()).context("cannot overwrite what is no directory")?;
        contents(&source, &target, owners)?;
        return finish(&target, stat, owners);
    }
    match fstatat(to.0, to.1, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(old) if file_type(old.st_mode) == SFlag::S_IFDIR => {
            bail!("cannot overwrite directory with non-directory")
        }
        Ok(_) => unlinkat(to.0, to.1, UnlinkatFlags::NoRemoveDir)?,
        Err(_) => {}
    }
    match kind {
        SFlag::S_IFREG => return copy_file(from, to, stat, owners),
        SFlag::S_IFLNK => symlinkat(&*readlinkat(from.0, from.1)?, to.0, to.1)?,
        SFlag::S_IFSOCK => return Ok(()),
        _ => {
            mknodat(to.0, to.1, kind, Mode::from_bits_truncate(stat.st_mode), stat.st_rdev)?;
            // The container may have put a link there by now.
            fchmodat(to.0, to.1, mode(stat), FchmodatFlags::NoFollowSymlink)?;
        }
    }
    if let Some((uid, gid)) = owners.of(stat)? {
        fchownat(to.0, to.1, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    let (atime, mtime) = times(stat);
    utimensat(to.0, to.1, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

fn copy_file(
    from: (&OwnedFd, &OsStr),
    to: (&OwnedFd, &OsStr),
    stat: &FileStat,
    owners: Owners<'_>,
) -> Result<()> {
    // Not blocking: what was a file a moment ago may be a FIFO by now.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let source = openat(from.0, from.1, flags, Mode::empty())?;
    if file_type(fstat(&source)?.st_mode) != SFlag::S_IFREG {
        bail!("it changed while it was copied");
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let target = openat(to.0, to.1, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let (mut source, mut target) = (File::from(source), File::from(target));
    io::copy(&mut source, &mut target)?;
    let target: OwnedFd = target.into();
    finish(&target, stat, owners)?;
    attributes(&source.into(), &target)
}

/// Owner before mode: changing the owner clears the set-id bits.
fn finish(target: &OwnedFd, stat: &FileStat, owners: Owners<'_>) -> Result<()> {
    if let Some((uid, gid)) = owners.of(stat)? {
        nix::unistd::fchown(target, Some(uid), Some(gid))?;
    }
    fchmod(target, mode(stat))?;
    let (atime, mtime) = times(stat);
    futimens(target, &atime, &mtime)?;
    Ok(())
}

fn attributes(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for name in xattr::list(from.as_fd())? {
        let shown = name.as_bytes();
        // File capabilities and the user's own; trusted.overlay.* and the like belong to the file system.
        if (shown.starts_with(b"user.") || shown == b"security.capability")
            && let Some(value) = xattr::get(from.as_fd(), &name)?
        {
            let _ = xattr::set(to.as_fd(), &name, &value);
        }
    }
    Ok(())
}

fn mode(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode & 0o7777)
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn an_image_directory_fills_a_volume() {
        let dir = tempfile::tempdir().unwrap();
        let (image, volume) = (dir.path().join("image"), dir.path().join("volume"));
        fs::create_dir_all(image.join("data/sub")).unwrap();
        fs::create_dir(&volume).unwrap();
        fs::write(image.join("data/sub/f"), "x").unwrap();
        fs::set_permissions(image.join("data/sub/f"), fs::Permissions::from_mode(0o4751)).unwrap();
        symlink("/etc/passwd", image.join("data/link")).unwrap();
        let root = Root::open(&image).unwrap();
        copy_up(&root, Path::new("/data"), &volume, Owners::Kept).unwrap();
        assert_eq!(fs::read_to_string(volume.join("sub/f")).unwrap(), "x");
        assert_eq!(fs::metadata(volume.join("sub/f")).unwrap().permissions().mode() & 0o7777, 0o4751);
        assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        copy_up(&root, Path::new("/missing"), &volume, Owners::Kept).unwrap();
    }
}
