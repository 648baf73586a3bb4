//! Masked and read-only paths.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};
use sys::mount::{Attributes, Filesystem, attr};
use sys::path::{Root, file_type};

use super::label::Label;

const READ_ONLY: Attributes = Attributes { set: attr::RDONLY, clear: 0, propagation: 0, userns_fd: 0 };

/// Something to lay over masked paths, as often as needed.
#[derive(Debug)]
pub struct Cover {
    mount: OwnedFd,
    used: bool,
}

impl Cover {
    /// The host's `/dev/null`, checked: inside the container a link may stand there, and a mask made of it would
    /// show what it points to (CVE-2025-31133). Opened while the host is still `/`.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn null() -> Result<Self> {
        let null = open("/dev/null", OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
            .context("open /dev/null")?;
        let info = fstat(&null).context("look at /dev/null")?;
        let is_null =
            file_type(info.st_mode) == SFlag::S_IFCHR && (major(info.st_rdev), minor(info.st_rdev)) == (1, 3);
        ensure!(is_null, "/dev/null is not the null device");
        Ok(Self { mount: copy(&null).context("mount /dev/null")?, used: false })
    }

    /// Lays it over `target`.
    fn lay(&mut self, target: &OwnedFd) -> io::Result<()> {
        // Only what is attached can be copied on kernels before 6.15.
        if self.used {
            return sys::mount::attach(copy(&self.mount)?.as_fd(), target.as_fd());
        }
        self.used = true;
        sys::mount::attach(self.mount.as_fd(), target.as_fd())
    }
}

/// Hides `paths`: an empty file over files, an empty read-only directory with this `label` over directories. What does
/// not exist needs no mask.
///
/// # Errors
/// Naming the path.
pub fn mask(root: &Root, paths: &[PathBuf], null: &mut Cover, label: Option<Label<'_>>) -> Result<()> {
    // One file system for all masked directories.
    let mut empty: Option<Cover> = None;
    for path in paths {
        let context = || format!("mask {}", path.display());
        let Some(target) = existing(root, path).with_context(context)? else { continue };
        let is_directory = file_type(fstat(&target).with_context(context)?.st_mode) == SFlag::S_IFDIR;
        let laid = match &mut empty {
            _ if !is_directory => null.lay(&target),
            Some(empty) => empty.lay(&target),
            none => empty_directory(label)
                .and_then(|mount| none.insert(Cover { mount, used: false }).lay(&target)),
        };
        laid.with_context(context)?;
    }
    Ok(())
}

fn copy(mount: &OwnedFd) -> io::Result<OwnedFd> {
    sys::mount::copy_tree(mount.as_fd(), Path::new(""), false, false)
}

fn empty_directory(label: Option<Label<'_>>) -> io::Result<OwnedFd> {
    let tmpfs = Filesystem::open("tmpfs")?;
    tmpfs.set("nr_blocks", "1")?;
    tmpfs.set("nr_inodes", "1")?;
    tmpfs.set("mode", "0755")?;
    if let Some(label) = label {
        label.set(&tmpfs, "tmpfs", &[])?;
    }
    tmpfs.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)
}

/// Makes `paths` read-only by mounting each over itself.
///
/// # Errors
/// Naming the path.
pub fn make_read_only(root: &Root, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let context = || format!("make {} read-only", path.display());
        let Some(target) = existing(root, path).with_context(context)? else { continue };
        let copy = sys::mount::copy_tree(target.as_fd(), Path::new(""), true, false).with_context(context)?;
        sys::mount::set_attributes(copy.as_fd(), READ_ONLY, true).with_context(context)?;
        sys::mount::attach(copy.as_fd(), target.as_fd()).with_context(context)?;
    }
    Ok(())
}

/// Makes the root itself read-only; what is mounted below it stays as it is.
///
/// # Errors
/// Whatever `mount_setattr(2)` says.
pub fn make_root_read_only(root: &Root) -> Result<()> {
    sys::mount::set_attributes(root.as_fd(), READ_ONLY, false).context("make the root file system read-only")
}

fn existing(root: &Root, path: &Path) -> io::Result<Option<OwnedFd>> {
    match root.open_in(path, OFlag::O_PATH, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        // A path below /proc that only privileged readers may see is hidden already.
        Err(err) if err.raw_os_error() == Some(Errno::EACCES as i32) => Ok(None),
        Err(err) => Err(err),
    }
}
