//! Mounts of type `cgroup`: what the container sees of its control groups.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use sys::mount::{Attributes, Filesystem, attr};
use sys::path::Root;

use super::label::Label;
use super::mount::Planned;
use crate::cgroup::{Hierarchy, Location, Mounts};

/// Mounts what belongs at the destination of `planned`: with a cgroup namespace (`own`) the hierarchies themselves,
/// whose roots it hides, and version 2's in any case; else, and where the container has no right to that
/// (CVE-2023-25809), bind mounts of its directories. `label` is that of version 1's tmpfs.
///
/// # Errors
/// Naming the hierarchy.
pub fn mount(
    root: &Root,
    planned: &Planned<'_>,
    (location, own): (&Location, bool),
    label: Option<Label<'_>>,
) -> Result<()> {
    show(root, planned, (location.mounts(), own), label)
}

/// As [`mount`], of systemd's own hierarchy of version 1 alone.
///
/// # Errors
/// The container is not in it.
pub fn mount_systemd(
    root: &Root,
    planned: &Planned<'_>,
    (location, own): (&Location, bool),
    label: Option<Label<'_>>,
) -> Result<()> {
    show(root, planned, (location.systemd_mounts()?, own), label)
}

fn show(
    root: &Root,
    planned: &Planned<'_>,
    (mounts, own): (Mounts, bool),
    label: Option<Label<'_>>,
) -> Result<()> {
    let context = || format!("mount cgroups at {}", planned.mount.destination.display());
    let place = planned.directory(root).with_context(context)?;
    let attributes = planned.options.attributes.set;
    match mounts {
        Mounts::V2(source) => {
            // All of it is shown without a namespace too, as under runc and crun: /proc/self/cgroup speaks of all of it.
            let data = planned.options.data.join(",");
            let mount = hierarchy("cgroup2", &data, attributes, true, &source).with_context(context)?;
            sys::mount::attach(mount.as_fd(), place.as_fd()).with_context(context)
        }
        Mounts::V1(hierarchies) => {
            let tmpfs = empty(attributes & !attr::RDONLY, label).with_context(context)?;
            sys::mount::attach(tmpfs.as_fd(), place.as_fd()).with_context(context)?;
            for one in &hierarchies {
                add(&tmpfs, one, attributes, own)
                    .with_context(|| format!("hierarchy {}", one.name))
                    .with_context(context)?;
            }
            let read_only = Attributes { set: attributes & attr::RDONLY, ..Attributes::default() };
            sys::mount::set_attributes(tmpfs.as_fd(), read_only, false).with_context(context)
        }
    }
}

fn empty(attributes: u64, label: Option<Label<'_>>) -> Result<OwnedFd> {
    let tmpfs = Filesystem::open("tmpfs")?;
    tmpfs.set("mode", "0755")?;
    if let Some(label) = label {
        label.set(&tmpfs, "tmpfs", &[]).context("linux.mountLabel")?;
    }
    Ok(tmpfs.mount(attributes)?)
}

fn add(tmpfs: &OwnedFd, one: &Hierarchy, attributes: u64, own: bool) -> Result<()> {
    mkdirat(tmpfs, one.name.as_str(), Mode::from_bits_truncate(0o755))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let place = openat(tmpfs, one.name.as_str(), flags, Mode::empty())?;
    let mount = hierarchy(one.kind, &one.data, attributes, own, &one.source)?;
    sys::mount::attach(mount.as_fd(), place.as_fd())?;
    for link in &one.links {
        match symlinkat(one.name.as_str(), tmpfs, link.as_str()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

fn hierarchy(kind: &str, data: &str, attributes: u64, own: bool, source: &Path) -> Result<OwnedFd> {
    if own {
        match fresh(kind, data, attributes) {
            // In a user namespace that has not the right to, or sees the host's only in part.
            Err(err) if matches!(err.kind(), ErrorKind::PermissionDenied | ErrorKind::ResourceBusy) => {}
            other => return Ok(other?),
        }
    }
    let copy = sys::mount::copy_tree(AT_FDCWD, source, false, false)?;
    let wanted = Attributes { set: attributes, ..Attributes::default() };
    sys::mount::set_attributes(copy.as_fd(), wanted, false)?;
    Ok(copy)
}

fn fresh(kind: &str, data: &str, attributes: u64) -> io::Result<OwnedFd> {
    let filesystem = Filesystem::open(kind)?;
    for item in data.split(',').filter(|item| !item.is_empty()) {
        match item.split_once('=') {
            Some((key, value)) => filesystem.set(key, value)?,
            None => filesystem.set_flag(item)?,
        }
    }
    filesystem.mount(attributes)
}
