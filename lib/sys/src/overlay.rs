//! Mounting overlayfs through the mount API of Linux 5.2 (`fsopen(2)` and relatives), one layer at a time.
//!
//! The classic `mount(2)` puts all layers into one option string of at most a page, which some forty layers fill;
//! `lowerdir+` (Linux 6.5) has no such limit. Older kernels get the string, with descriptors in place of paths.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::mount::MsFlags;

/// What an overlay is made of.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// Read-only directories, the topmost first; at least one (two without an upper directory).
    pub lowers: &'a [&'a Path],
    /// Where changes go, and the work directory beside it; `None` for a read-only overlay.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// Skip every sync: for an upper directory that is worthless after a crash.
    pub volatile: bool,
    /// Keep marks in `user.overlay.*` (for mounts without the machine's own root).
    pub user_xattr: bool,
}

/// Mounts `overlay` on the directory `target`.
///
/// # Errors
/// What the kernel says: `ENODEV` without overlayfs, `EINVAL` for an upper directory on an unsuitable file system. Where
/// that is another overlay, as everything inside a container, the error says so and what to do.
pub fn mount(overlay: &Overlay<'_>, target: &Path) -> io::Result<()> {
    let mounted = match modern(overlay, target) {
        // EINVAL: no `lowerdir+` before 6.5; ENOSYS: no fsopen, or a sandbox without it.
        Err(err) if matches!(err.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            classic(overlay, target)
        }
        other => other,
    };
    match (mounted, overlay.upper) {
        (Err(err), Some((upper, _))) if err.raw_os_error() == Some(libc::EINVAL) && is_overlay(upper) => {
            Err(io::Error::new(
                err.kind(),
                format!(
                    "{} is on an overlay, which cannot hold the changes of another: use a directory on a disk or a \
                     tmpfs (BULKHEAD_STORE says where the store is)",
                    upper.display()
                ),
            ))
        }
        (mounted, _) => mounted,
    }
}

fn is_overlay(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC)
}

fn modern(overlay: &Overlay<'_>, target: &Path) -> io::Result<()> {
    // SAFETY: a NUL-terminated name and a flag; the result is checked before it is owned.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), libc::FSOPEN_CLOEXEC) };
    let context = owned(context)?;
    // Shown as the device in /proc/mounts, where tools look for the name.
    string(&context, c"source", c"overlay")?;
    for lower in overlay.lowers {
        string(&context, c"lowerdir+", &c_path(lower)?)?;
    }
    if let Some((upper, work)) = overlay.upper {
        string(&context, c"upperdir", &c_path(upper)?)?;
        string(&context, c"workdir", &c_path(work)?)?;
    }
    // Said aloud because distributions change the defaults: a layer must be readable without knowing its history.
    for (key, value) in [(c"redirect_dir", c"nofollow"), (c"index", c"off"), (c"metacopy", c"off")] {
        string(&context, key, value)?;
    }
    if overlay.volatile {
        flag(&context, c"volatile")?;
    }
    if overlay.user_xattr {
        flag(&context, c"userxattr")?;
    }
    config(&context, libc::FSCONFIG_CMD_CREATE, None, None)?;
    // SAFETY: integers only; the result is checked before it is owned.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, 0) };
    let mount = owned(mount)?;
    let target = c_path(target)?;
    // SAFETY: both paths are NUL-terminated and live across the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn classic(overlay: &Overlay<'_>, target: &Path) -> io::Result<()> {
    let mut lowers = Vec::new();
    for lower in overlay.lowers {
        lowers.push(File::open(lower)?);
    }
    // Short names, so that some two hundred layers fit the page, and no colon or comma needs quoting.
    let names: Vec<String> = lowers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let mut options = format!("lowerdir={}", names.join(":"));
    let mut held = Vec::new();
    if let Some((upper, work)) = overlay.upper {
        let (upper, work) = (File::open(upper)?, File::open(work)?);
        options += &format!(
            ",upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{}",
            upper.as_raw_fd(),
            work.as_raw_fd()
        );
        held.extend([upper, work]);
    }
    options += ",index=off,metacopy=off";
    if overlay.volatile {
        options += ",volatile";
    }
    if overlay.user_xattr {
        options += ",userxattr";
    }
    nix::mount::mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?;
    Ok(())
}

fn string(context: &OwnedFd, key: &CStr, value: &CStr) -> io::Result<()> {
    config(context, libc::FSCONFIG_SET_STRING, Some(key), Some(value))
}

fn flag(context: &OwnedFd, key: &CStr) -> io::Result<()> {
    config(context, libc::FSCONFIG_SET_FLAG, Some(key), None)
}

fn config(
    context: &OwnedFd,
    command: libc::c_uint,
    key: Option<&CStr>,
    value: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are null or NUL-terminated strings that live across the call.
    let rc = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, pointer(key), pointer(value), 0)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
