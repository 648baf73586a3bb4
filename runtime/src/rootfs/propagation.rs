//! How mounts and unmounts travel between the host and the container.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::libc;
use nix::sys::stat::Mode;
use sys::mount::Attributes;

use super::options::{self, Propagation};

/// Sees what the host mounts, and never the other way round.
pub const SLAVE: Propagation = Propagation { kind: libc::MS_SLAVE, recursive: true };

/// `linux.rootfsPropagation`; without it the container sees what the host mounts, and never the other way round.
///
/// # Errors
/// A usage fault for an unknown word.
pub fn read(word: &str) -> Result<Propagation> {
    if word.is_empty() {
        return Ok(SLAVE);
    }
    match options::propagation(word) {
        Some(propagation) => Ok(propagation),
        None => fault!(Usage, "linux.rootfsPropagation: unknown value {word:?}"),
    }
}

/// Sets the propagation of the mount whose root `mount` is.
///
/// # Errors
/// Whatever `mount_setattr(2)` says.
pub fn set(mount: BorrowedFd<'_>, propagation: Propagation) -> std::io::Result<()> {
    let attributes = Attributes { propagation: propagation.kind, ..Attributes::default() };
    sys::mount::set_attributes(mount, attributes, propagation.recursive)
}

/// Sets the whole new mount namespace to `propagation` and makes a copy of the root file system in it, mounted over
/// itself: `pivot_root(2)` wants a mount. Returns the copy's root.
///
/// # Errors
/// The root file system is missing, or mounting it is not allowed.
pub fn isolate(rootfs: &Path, propagation: Propagation, ready: Option<OwnedFd>) -> Result<OwnedFd> {
    let host = directory(Path::new("/"))?;
    set(host.as_fd(), of_all(propagation)).context("set the propagation of the mount namespace")?;
    let (rootfs, place) = match directory(rootfs) {
        // The container's root may have no way to it, as below a directory of root's alone. Any place will do.
        Err(err) if ready.is_some() && is_denied(&err) => PLACES
            .iter()
            .find_map(|place| Some((Path::new(place), directory(Path::new(place)).ok()?)))
            .ok_or(err)?,
        other => (rootfs, other?),
    };
    if propagation.kind == libc::MS_SHARED {
        // pivot_root refuses a shared parent, and the copy would show up on the host.
        let parent = mount_of(rootfs)?;
        let private = Propagation { kind: libc::MS_PRIVATE, recursive: false };
        set(parent.as_fd(), private).context("make the mount below the root file system private")?;
    }
    let context = || format!("mount root file system {}", rootfs.display());
    let copy = match ready {
        Some(tree) => tree,
        None => sys::mount::copy_tree(place.as_fd(), Path::new(""), true, false).with_context(context)?,
    };
    sys::mount::attach(copy.as_fd(), place.as_fd()).with_context(context)?;
    Ok(copy)
}

/// That of the whole mount namespace. Unbindable is for the finished root (see `finish_root`): its copy could not be made.
fn of_all(propagation: Propagation) -> Propagation {
    let kind = if propagation.kind == libc::MS_UNBINDABLE { libc::MS_PRIVATE } else { propagation.kind };
    Propagation { kind, recursive: true }
}

/// The copy that [`isolate`] would make, made where the runtime is; `None` where it is to be shared with the host, as only
/// the mount namespace's own is.
#[must_use]
pub fn copy_ahead(rootfs: &Path, propagation: Propagation) -> Option<OwnedFd> {
    (propagation.kind != libc::MS_SHARED).then(|| copy_root(rootfs, of_all(propagation)).ok())?
}

/// A copy of the root file system for [`isolate`], made where the runtime is: the container's root may have no way to it. A
/// copy of a shared mount is shared with the host until it says otherwise, and no root for `pivot_root(2)`.
///
/// # Errors
/// The root file system is missing, or mounting it is not allowed.
pub fn copy_root(rootfs: &Path, propagation: Propagation) -> Result<OwnedFd> {
    let tree = sys::mount::copy_tree(AT_FDCWD, rootfs, true, false);
    let tree = tree.and_then(|tree| set(tree.as_fd(), propagation).map(|()| tree));
    tree.with_context(|| format!("mount root file system {}", rootfs.display()))
}

/// Directories that everybody may enter and that nothing is looked for in while a container is made.
const PLACES: [&str; 5] = ["/mnt", "/srv", "/media", "/opt", "/tmp"];

fn is_denied(err: &anyhow::Error) -> bool {
    err.downcast_ref() == Some(&nix::errno::Errno::EACCES)
}

fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}

/// The root of the mount that `path` is on.
fn mount_of(path: &Path) -> Result<OwnedFd> {
    for ancestor in path.ancestors() {
        let fd = directory(ancestor)?;
        if sys::mount::is_mount_root(&fd).with_context(|| format!("look at {}", ancestor.display()))? {
            return Ok(fd);
        }
    }
    directory(Path::new("/"))
}
