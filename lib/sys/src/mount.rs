//! Mounts as descriptors: `fsopen(2)`, `fsmount(2)`, `open_tree(2)`, `move_mount(2)`, `mount_setattr(2)`,
//! `pivot_root(2)`. Nothing here takes a path that something hostile could change.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const OPEN_TREE_CLONE: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const AT_RECURSIVE: i32 = 0x8000;
/// The longest value that `fsconfig(2)` takes, without its final NUL.
pub const LONGEST_VALUE: usize = 255;

/// `MOUNT_ATTR_…` bits (mount_setattr(2)).
pub mod attr {
    /// Read only.
    pub const RDONLY: u64 = 0x1;
    /// No set-user-id.
    pub const NOSUID: u64 = 0x2;
    /// No device files.
    pub const NODEV: u64 = 0x4;
    /// No programs.
    pub const NOEXEC: u64 = 0x8;
    /// The bits of the access time mode; zero is `relatime`.
    pub const ATIME: u64 = 0x70;
    /// Never update access times.
    pub const NOATIME: u64 = 0x10;
    /// Always update access times.
    pub const STRICTATIME: u64 = 0x20;
    /// No access times of directories.
    pub const NODIRATIME: u64 = 0x80;
    /// Shift ids by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Do not follow symbolic links.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// The argument of `mount_setattr(2)`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Bits of [`attr`] to set.
    pub set: u64,
    /// Bits of [`attr`] to clear first.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SHARED`, `MS_SLAVE`, `MS_UNBINDABLE` or 0.
    pub propagation: u64,
    /// A user namespace for [`attr::IDMAP`].
    pub userns_fd: u64,
}

/// A file system being configured.
#[derive(Debug)]
pub struct Filesystem {
    fd: OwnedFd,
}

impl Filesystem {
    /// Starts one of this type.
    ///
    /// # Errors
    /// `ENODEV` where the kernel does not know the type.
    pub fn open(kind: &str) -> io::Result<Self> {
        let kind = CString::new(kind)?;
        // SAFETY: passes a NUL-terminated string; the answer is a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) };
        Ok(Self { fd: new_fd(fd)? })
    }

    /// Sets `key=value`.
    ///
    /// # Errors
    /// `EINVAL` with an explanation from the kernel where it gives one.
    pub fn set(&self, key: &str, value: &str) -> io::Result<()> {
        let (key, value) = (CString::new(key)?, CString::new(value)?);
        self.config(FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr())
    }

    /// Sets a flag that has no value.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn set_flag(&self, key: &str) -> io::Result<()> {
        let key = CString::new(key)?;
        self.config(FSCONFIG_SET_FLAG, key.as_ptr(), std::ptr::null())
    }

    /// Makes it and returns it as a mount that is attached nowhere yet; `attributes` are bits of [`attr`].
    ///
    /// # Errors
    /// What `mount(2)` of the same would have said.
    pub fn mount(self, attributes: u64) -> io::Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, std::ptr::null(), std::ptr::null())?;
        // SAFETY: passes integers only; the answer is a new descriptor or -1.
        let fd =
            unsafe { libc::syscall(libc::SYS_fsmount, self.fd.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) };
        new_fd(fd).map_err(|err| self.explain(err))
    }

    fn config(&self, command: u32, key: *const libc::c_char, value: *const libc::c_char) -> io::Result<()> {
        // SAFETY: key and value are null or NUL-terminated strings of the caller, which outlive the call.
        let rc = unsafe { libc::syscall(libc::SYS_fsconfig, self.fd.as_raw_fd(), command, key, value, 0) };
        if rc < 0 { Err(self.explain(io::Error::last_os_error())) } else { Ok(()) }
    }

    /// The kernel keeps a sentence about what it disliked; reading the descriptor fetches it.
    fn explain(&self, err: io::Error) -> io::Error {
        let mut buffer = [0; 512];
        match nix::unistd::read(&self.fd, &mut buffer) {
            Ok(length) if length > 2 => {
                let text = String::from_utf8_lossy(&buffer[2..length]);
                io::Error::new(err.kind(), format!("{err}: {}", text.trim()))
            }
            _ => err,
        }
    }
}

/// Copies the mount at `path` (below `at`; empty: `at` itself) as one that is attached nowhere; with `recursive`
/// also what is mounted below it. With `nofollow`, a final symbolic link is not followed.
///
/// # Errors
/// Whatever `open_tree(2)` says.
pub fn copy_tree(at: BorrowedFd<'_>, path: &Path, recursive: bool, nofollow: bool) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned() | libc::AT_EMPTY_PATH.cast_unsigned();
    if recursive {
        flags |= AT_RECURSIVE.cast_unsigned();
    }
    if nofollow {
        flags |= libc::AT_SYMLINK_NOFOLLOW.cast_unsigned();
    }
    // SAFETY: passes a NUL-terminated string; the answer is a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), path.as_ptr(), flags) };
    new_fd(fd)
}

/// Copies the mount that is the root of process `pid`, which is in another mount namespace, as one that is attached nowhere.
/// `is_it` is asked, once nothing can change it any more, whether that is the process that was meant.
///
/// # Errors
/// `ESRCH` where it is not; `EPERM` without rights over its namespace; whatever `setns(2)` and `open_tree(2)` say.
pub fn root_of(pid: i32, is_it: impl FnOnce() -> bool) -> io::Result<OwnedFd> {
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    let root = File::open(format!("/proc/{pid}/root"))?;
    if !is_it() {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // Only a task that shares its root and directory with no other may go there; this one does not come back.
    let there = std::thread::spawn(move || {
        crate::namespace::unshare(libc::CLONE_FS)?;
        crate::namespace::join(namespace.as_fd(), libc::CLONE_NEWNS)?;
        copy_tree(root.as_fd(), Path::new(""), false, true)
    });
    there.join().unwrap_or_else(|_| Err(io::Error::other("the thread that looked at the mount ended early")))
}

/// Attaches a detached mount on top of what `target` refers to.
///
/// # Errors
/// Whatever `move_mount(2)` says.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: passes two descriptors and empty strings.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Changes the attributes of the mount whose root `mount` is; with `recursive` also of those below it.
///
/// # Errors
/// `EINVAL` where the descriptor is not the root of a mount, `EPERM` for locked attributes.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attributes` has the layout of struct mount_attr and its size is passed with it.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the current directory the root and puts the old root on top of it (as `pivot_root(".", ".")`); the caller
/// then detaches the old one with [`detach_here`].
///
/// # Errors
/// Whatever `pivot_root(2)` says.
pub fn pivot_here() -> io::Result<()> {
    // SAFETY: passes two constant strings.
    let rc = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Detaches the topmost mount at the current directory.
///
/// # Errors
/// Whatever `umount2(2)` says.
pub fn detach_here() -> io::Result<()> {
    // SAFETY: passes a constant string.
    if unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Detaches the mount whose root `fd` is, with all that is mounted below it.
///
/// # Errors
/// Whatever `umount2(2)` says; no procfs at `/proc`.
pub fn detach(fd: impl AsFd) -> io::Result<()> {
    let path = CString::new(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))?;
    // SAFETY: passes a NUL-terminated string.
    if unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Detaches the mount at `name` in `directory`, which becomes the current directory; a link is not followed.
///
/// # Errors
/// `EINVAL` where nothing is mounted there; whatever `umount2(2)` says.
pub fn detach_in(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    nix::unistd::fchdir(directory)?;
    let name = CString::new(name.as_bytes())?;
    // SAFETY: passes a NUL-terminated string.
    if unsafe { libc::umount2(name.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether `fd` is the root of a mount, from `statx(2)`.
///
/// # Errors
/// Whatever `statx(2)` says.
pub fn is_mount_root(fd: impl AsFd) -> io::Result<bool> {
    const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;
    Ok(statx(fd, 0)?.stx_attributes & STATX_ATTR_MOUNT_ROOT != 0)
}

/// The id of the mount that `fd` is on: one that is never used again where the kernel has such (6.8).
///
/// # Errors
/// Whatever `statx(2)` says.
pub fn id(fd: impl AsFd) -> io::Result<u64> {
    const STATX_MNT_ID: u32 = 0x1000;
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    Ok(statx(fd, STATX_MNT_ID | STATX_MNT_ID_UNIQUE)?.stx_mnt_id)
}

fn statx(fd: impl AsFd, mask: u32) -> io::Result<libc::statx> {
    // SAFETY: statx is plain old data, for which zero bytes are a value.
    let mut info: libc::statx = unsafe { std::mem::zeroed() };
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: passes an empty string and a buffer of the right type that outlives the call.
    let rc = unsafe { libc::statx(fd, c"".as_ptr(), libc::AT_EMPTY_PATH, mask, &raw mut info) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

fn new_fd(rc: libc::c_long) -> io::Result<OwnedFd> {
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(rc).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
