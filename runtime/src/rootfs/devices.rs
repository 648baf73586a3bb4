//! `/dev`: the nodes that the specification promises, those of `linux.devices`, and the usual links.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use sys::path::{Root, file_type};

use crate::spec::linux::Device;

/// Default devices (config-linux.md): name, major, minor.
const DEFAULT: [(&str, u64, u64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

const CORE: &str = "core";

/// Where nodes come from: made, or mounted from the host where a user namespace may not make any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `mknod(2)`.
    Make,
    /// `mknod(2)`, or where that is not allowed as [`Source::Bind`].
    MakeOrBind,
    /// A bind mount of the host's node.
    Bind,
}

/// Fills `/dev`.
///
/// # Errors
/// `/dev` is a symbolic link (CVE-2026-41579), or a node cannot be made, naming it.
pub fn fill(root: &Root, devices: &[Device], source: Source) -> Result<()> {
    fill_in(&open_dev(root)?, Some(root), devices, source)
}

/// Fills a `/dev` that is new and mounted nowhere yet.
///
/// # Errors
/// A node cannot be made, or one of `devices` is not straight below `/dev`.
pub fn fill_new(dev: &OwnedFd, devices: &[Device]) -> Result<()> {
    fill_in(dev, None, devices, Source::Make)
}

fn fill_in(dev: &OwnedFd, root: Option<&Root>, devices: &[Device], source: Source) -> Result<()> {
    for (name, major, minor) in DEFAULT {
        let device = Device {
            path: Path::new("/dev").join(name),
            kind: "c".into(),
            major,
            minor,
            file_mode: Some(0o666),
            uid: 0,
            gid: 0,
        };
        // config.json may have its own wishes for one of these.
        if devices.iter().any(|other| other.path == device.path) {
            continue;
        }
        make(dev, Path::new(name), &device, source).with_context(|| format!("make /dev/{name}"))?;
    }
    for device in devices {
        let context = || format!("make device {}", device.path.display());
        let (directory, name) = parent(root, dev, &device.path).with_context(context)?;
        make(&directory, &name, device, source).with_context(context)?;
    }
    for (target, name) in LINKS {
        let replaced = name == "ptmx";
        if replaced {
            // Whatever the image has there is not the container's own.
            let _ = unlinkat(dev, name, UnlinkatFlags::NoRemoveDir);
        }
        match symlinkat(target, dev, name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(err) => return Err(err).with_context(|| format!("make link /dev/{name}")),
        }
    }
    if Path::new("/proc/kcore").exists() {
        let _ = symlinkat("/proc/kcore", dev, CORE);
    }
    Ok(())
}

/// The paths of all nodes that [`fill`] makes.
pub fn paths(devices: &[Device]) -> impl Iterator<Item = PathBuf> {
    let defaults = DEFAULT.into_iter().map(|(name, ..)| Path::new("/dev").join(name));
    defaults.chain(devices.iter().map(|device| device.path.clone()))
}

/// The names of all that [`fill_new`] makes.
pub fn names(devices: &[Device]) -> impl Iterator<Item = &OsStr> {
    let ours =
        DEFAULT.iter().map(|(name, ..)| *name).chain(LINKS.iter().map(|(_, name)| *name)).chain([CORE]);
    ours.map(OsStr::new).chain(devices.iter().filter_map(|device| device.path.file_name()))
}

/// Opens the container's `/dev`, which must be a directory and no link.
///
/// # Errors
/// It is something else.
pub fn open_dev(root: &Root) -> Result<OwnedFd> {
    let open = || {
        let (top, name) = root.parent_of(Path::new("/dev"))?;
        match nix::sys::stat::mkdirat(&top, &*name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            // A read-only root without the directory: the open below says so better.
            Err(Errno::EROFS) => {}
            Err(err) => return Err(err.into()),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        Ok::<_, std::io::Error>(openat(&top, &*name, flags | OFlag::O_CLOEXEC, Mode::empty())?)
    };
    open().context("open /dev of the container (it must be a directory)")
}

fn parent(root: Option<&Root>, dev: &OwnedFd, path: &Path) -> Result<(OwnedFd, PathBuf)> {
    let Some(name) = path.file_name() else { fault!(Usage, "no file name") };
    let directory = path.parent().unwrap_or(Path::new("/"));
    // Straight below /dev there is no path to walk.
    let fd = if directory == Path::new("/dev") {
        dev.try_clone()?
    } else {
        let root = root.context("not straight below /dev")?;
        root.mkdir_all(directory, Mode::from_bits_truncate(0o755))?
    };
    Ok((fd, name.into()))
}

fn make(directory: &OwnedFd, name: &Path, device: &Device, source: Source) -> Result<()> {
    let kind = file_kind(&device.kind)?;
    if source != Source::Bind || kind == SFlag::S_IFIFO {
        let made = make_node(directory, name, device, kind);
        let denied = made.as_ref().is_err_and(|err| err.downcast_ref() == Some(&Errno::EPERM));
        // No right to make nodes here: the host's is as good.
        if !denied || source == Source::Make || kind == SFlag::S_IFIFO {
            return made;
        }
    }
    bind_node(directory, name, device)
}

fn file_kind(kind: &str) -> Result<SFlag> {
    Ok(match kind {
        "c" | "u" => SFlag::S_IFCHR,
        "b" => SFlag::S_IFBLK,
        "p" => SFlag::S_IFIFO,
        _ => fault!(Usage, "linux.devices: unknown type {kind:?}"),
    })
}

fn make_node(directory: &OwnedFd, name: &Path, device: &Device, kind: SFlag) -> Result<()> {
    let mode = Mode::from_bits_truncate(device.file_mode.unwrap_or(0o666) & 0o7777);
    let number = if kind == SFlag::S_IFIFO { 0 } else { makedev(device.major, device.minor) };
    match mknodat(directory, name, kind, mode, number) {
        Ok(()) => {}
        Err(Errno::EEXIST) => {
            let found = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            if file_type(found.st_mode) != kind || found.st_rdev != number {
                fault!(Exists, "something else is there already");
            }
            // Another container that shares the directory may have put a link there by now.
            fchmodat(directory, name, mode, FchmodatFlags::NoFollowSymlink)?;
        }
        Err(err) => return Err(err.into()),
    }
    if device.uid != 0 || device.gid != 0 {
        let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
        fchownat(directory, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn bind_node(directory: &OwnedFd, name: &Path, device: &Device) -> Result<()> {
    let host = open(&device.path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .context("open the host's node")?;
    let node = sys::mount::copy_tree(host.as_fd(), Path::new(""), false, false)?;
    // What is there already is never opened: that can have effects of its own.
    match openat(directory, name, OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(err) => return Err(err.into()),
    }
    let place = openat(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(sys::mount::attach(node.as_fd(), place.as_fd())?)
}
