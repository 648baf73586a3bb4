//! `tmpcopyup`: a tmpfs that starts with what it covers.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, Result};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use sys::path::file_type;

/// How deep a tree is followed: far beyond any real one, and short of the stack.
const DEEPEST: u32 = 256;

/// Copies what is in the directory `from` into the directory `to`: contents, owners, modes and times.
///
/// # Errors
/// The tmpfs is full, or something cannot be read, naming it.
pub fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let info = fstat(from).context("read the covered directory")?;
    copy_entries(from, to, DEEPEST)?;
    set_metadata(to, c".", &info).context("set the owner of the copy")
}

fn copy_entries(from: &OwnedFd, to: &OwnedFd, depth: u32) -> Result<()> {
    let readable = openat(from, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in Dir::from_fd(readable)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            let shown = || OsStr::from_bytes(name.to_bytes()).display().to_string();
            copy_entry(from, to, name, depth).with_context(shown)?;
        }
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> Result<()> {
    let info = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = file_type(info.st_mode);
    let nofollow = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match kind {
        SFlag::S_IFDIR => {
            let depth = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
            mkdirat(to, name, Mode::S_IRWXU)?;
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | nofollow;
            let inner = openat(from, name, flags, Mode::empty())?;
            copy_entries(&inner, &openat(to, name, flags, Mode::empty())?, depth)?;
        }
        SFlag::S_IFREG => {
            let source = openat(from, name, OFlag::O_RDONLY | OFlag::O_NONBLOCK | nofollow, Mode::empty())?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | nofollow;
            let target = openat(to, name, flags, Mode::S_IRWXU)?;
            io::copy(&mut File::from(source), &mut File::from(target))?;
        }
        SFlag::S_IFLNK => symlinkat(&*readlinkat(from, name)?, to, name)?,
        _ => mknodat(to, name, kind, Mode::S_IRUSR, info.st_rdev)?,
    }
    set_metadata(to, name, &info)
}

fn set_metadata(directory: &OwnedFd, name: &CStr, info: &FileStat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(info.st_uid), Gid::from_raw(info.st_gid));
    fchownat(directory.as_fd(), name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if file_type(info.st_mode) != SFlag::S_IFLNK {
        // After the owner: changing that takes the set-user-id bit away.
        let mode = Mode::from_bits_truncate(info.st_mode & 0o7777);
        fchmodat(directory, name, mode, FchmodatFlags::FollowSymlink)?;
    }
    let (atime, mtime) =
        (TimeSpec::new(info.st_atime, info.st_atime_nsec), TimeSpec::new(info.st_mtime, info.st_mtime_nsec));
    utimensat(directory, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}
