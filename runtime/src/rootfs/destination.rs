//! Where a mount goes: which places are allowed, and what is made or taken over there.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use sys::path::{Node, Root, file_type};

use super::mount::{DIRECTORY, Planned};
use super::options::Options;
use crate::spec::document::Mount;

/// Files below `/proc` that may be covered, for what shows a container its own limits (lxcfs) or fixes a value.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Nothing covers the root. Only proc covers `/proc`, and only a few files in it are covered.
///
/// # Errors
/// A usage fault naming the destination.
pub fn check(mount: &Mount, options: &Options) -> Result<()> {
    let place = without_dots(&mount.destination);
    if place == Path::new("/") {
        fault!(Usage, "mounts: {:?} is the root file system itself", mount.destination);
    }
    let shown = mount.destination.display();
    // The source of a bind mount shows its type when it is opened.
    if place == Path::new("/proc") && !options.bind && mount.kind != "proc" {
        fault!(Usage, "\"{shown}\" cannot be covered by something that is not proc");
    }
    let below = place.starts_with("/proc") && place != Path::new("/proc");
    if below && !COVERABLE.iter().any(|file| Path::new(file) == place) {
        fault!(Usage, "\"{shown}\" cannot be mounted because it is inside /proc");
    }
    Ok(())
}

/// The path that `path` names where no link is on the way.
pub(super) fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => _ = plain.pop(),
            _ => {}
        }
    }
    plain
}

impl Planned<'_> {
    /// The directory at the destination, and the mode that a tmpfs takes over from it, as it does under runc and crun:
    /// one that was there, where the options say nothing else.
    pub(super) fn directory_with_mode(&self, root: &Root) -> Result<(OwnedFd, Option<String>)> {
        let mut options = self.options.data.iter().flat_map(|data| data.split(','));
        if self.mount.kind == "tmpfs"
            && !options.any(|option| option.starts_with("mode="))
            && let Ok(place) =
                root.open_in(&self.mount.destination, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
        {
            let mode = fstat(&place)?.st_mode & 0o7777;
            return Ok((place, Some(format!("{mode:o}"))));
        }
        Ok((self.directory(root)?, None))
    }

    /// The directory at the destination, made where it is missing.
    pub fn directory(&self, root: &Root) -> Result<OwnedFd> {
        let destination = &self.mount.destination;
        if matches!(self.mount.kind.as_str(), "proc" | "sysfs") {
            // A link here would put the mount where masks and checks do not look (CVE-2019-19921, CVE-2023-27561).
            let place = root.mkdir_all(destination.parent().unwrap_or(Path::new("/")), DIRECTORY)?;
            let Some(name) = destination.file_name() else {
                fault!(Usage, "{} cannot be /", self.mount.kind)
            };
            match nix::sys::stat::mkdirat(&place, name, DIRECTORY) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(err) => return Err(err.into()),
            }
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            return openat(&place, name, flags, Mode::empty())
                .with_context(|| format!("{} must be mounted on an ordinary directory", self.mount.kind));
        }
        Ok(root.make(destination, Node::Directory, DIRECTORY)?)
    }

    /// What a bind mount goes on top of: made where it is missing, a directory or an empty file like its source.
    pub(super) fn place_for(&self, root: &Root, tree: &OwnedFd) -> Result<OwnedFd> {
        let destination = &self.mount.destination;
        if without_dots(destination) == Path::new("/proc")
            && fstatfs(tree).is_ok_and(|info| info.filesystem_type() != PROC_SUPER_MAGIC)
        {
            fault!(Usage, "\"/proc\" cannot be covered by something that is not proc");
        }
        if self.options.destination_nofollow
            && let Ok(link) = root.open_in(destination, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())
        {
            return Ok(link);
        }
        let is_directory = file_type(fstat(tree)?.st_mode) == SFlag::S_IFDIR;
        let last = if is_directory { Node::Directory } else { Node::File };
        Ok(root.make(destination, last, DIRECTORY)?)
    }
}
