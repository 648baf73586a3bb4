//! The entries of `mounts`, each made detached, given its attributes and then attached to a descriptor of its place.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, readlink};
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::symlinkat;
use sys::mount::{Attributes, Filesystem, LONGEST_VALUE, attr};
use sys::path::Root;

use super::idmap::{self, Maps, Shift};
use super::label::{self, Label};
use super::options::{Options, Propagation};
use super::{copy_up, destination, propagation};
use crate::spec::document::Mount;

pub(super) const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
/// One entry of `mounts` with its options read.
#[derive(Debug)]
pub struct Planned<'doc> {
    /// The entry.
    pub mount: &'doc Mount,
    /// Its options.
    pub options: Options,
    source: PathBuf,
    /// The source's path in the container, where it is in the root file system: what is mounted there by then is meant, and
    /// a link in it leads nowhere else.
    inside: Option<PathBuf>,
    /// How the ids of such a source are shifted.
    shift: Option<Shift>,
    tree: Option<OwnedFd>,
}

/// Reads all entries.
///
/// # Errors
/// A usage fault naming the destination.
pub fn plan<'doc>(mounts: &'doc [Mount], bundle: &Path, rootfs: Option<&Path>) -> Result<Vec<Planned<'doc>>> {
    mounts.iter().map(|mount| plan_one(mount, bundle, rootfs)).collect()
}

fn plan_one<'doc>(mount: &'doc Mount, bundle: &Path, rootfs: Option<&Path>) -> Result<Planned<'doc>> {
    let context = || format!("mounts: {}", mount.destination.display());
    if mount.destination.as_os_str().is_empty() {
        fault!(Usage, "mounts: an entry without destination");
    }
    let options = Options::parse(&mount.kind, &mount.options).with_context(context)?;
    if !options.remount {
        destination::check(mount, &options)?;
    }
    // As runc: a relative source of a bind mount is in the bundle.
    let source = if options.bind { bundle.join(&mount.source) } else { mount.source.clone() };
    let inside = rootfs.filter(|_| options.bind).and_then(|rootfs| source.strip_prefix(rootfs).ok());
    let inside = inside.map(Path::to_path_buf);
    Ok(Planned { mount, options, source, inside, shift: None, tree: None })
}

/// Opens those sources that only the runtime itself may open: all bind mounts where the container has a user
/// namespace (whose root has no way into the host's private directories), and those whose ids are to be shifted. Of one
/// in the root file system it is only made ready how its ids are shifted: what is there by then is meant.
///
/// # Errors
/// A source that is missing, naming both ends of the mount.
pub fn open_early(plan: &mut [Planned<'_>], userns: bool, container: idmap::Container<'_>) -> Result<()> {
    let mut idmaps = Maps::default();
    for planned in plan.iter_mut().filter(|planned| planned.options.bind && !planned.options.remount) {
        let wanted = idmap::wanted(planned.mount, &planned.options);
        if (!userns && wanted.is_none()) || planned.options.copy_symlink {
            continue;
        }
        let context = || planned.describe();
        let shift = wanted.map(|how| idmaps.shift(planned.mount, how, container));
        let shift = shift.transpose().with_context(context)?;
        if planned.inside.is_some() {
            planned.shift = shift;
            continue;
        }
        let tree = planned.copy_source().with_context(context)?;
        if let Some(shift) = shift {
            shift.apply(&tree).with_context(context)?;
        }
        // A copy of a shared mount is shared with the host until it says otherwise.
        let slave = Propagation { kind: nix::libc::MS_SLAVE, recursive: true };
        propagation::set(tree.as_fd(), slave).with_context(context)?;
        planned.tree = Some(tree);
    }
    Ok(())
}

/// Makes a mount read-only.
///
/// # Errors
/// Whatever `mount_setattr(2)` says.
pub fn seal(mount: &OwnedFd) -> Result<()> {
    let read_only = Attributes { set: attr::RDONLY, ..Attributes::default() };
    sys::mount::set_attributes(mount.as_fd(), read_only, false).context("make a tmpfs read-only")
}

impl Planned<'_> {
    /// Makes the mount below `root`. `label` is the SELinux label of new file systems.
    ///
    /// # Errors
    /// Naming source and destination.
    pub fn perform(&self, root: &Root, label: Option<Label<'_>>) -> Result<()> {
        self.perform_unsealed(root, label, None)?.as_ref().map_or(Ok(()), seal)
    }

    /// As [`Self::perform`]; a tmpfs that is to be read-only is returned to be sealed once all that goes into it is
    /// there: podman's read-only /dev gets a /dev/pts. `ready` is what [`Self::make_unattached`] has made.
    ///
    /// # Errors
    /// Naming source and destination.
    pub fn perform_unsealed(
        &self,
        root: &Root,
        label: Option<Label<'_>>,
        ready: Option<OwnedFd>,
    ) -> Result<Option<OwnedFd>> {
        self.try_perform(root, label, ready).with_context(|| self.describe())
    }

    /// The mount, attached nowhere yet, if it is of a file system that does not depend on where it is going to be, nor on
    /// the namespaces of who makes it.
    #[must_use]
    pub fn make_unattached(&self) -> Option<OwnedFd> {
        let options = || self.options.data.iter().flat_map(|data| data.split(','));
        let stands_alone = match self.mount.kind.as_str() {
            // Else its mode is that of the directory it covers.
            "tmpfs" => options().any(|option| option.starts_with("mode=")),
            "devpts" => true,
            _ => false,
        };
        let is_plain = !self.options.bind && !self.options.remount && !self.options.copy_up;
        let fits = self.mount.options.iter().all(|option| option.len() <= LONGEST_VALUE);
        (stands_alone && is_plain && fits).then(|| self.filesystem(None, None).ok())?
    }

    /// Whether it shows the container its cgroups.
    #[must_use]
    pub fn is_cgroup(&self) -> bool {
        !self.options.bind && matches!(self.mount.kind.as_str(), "cgroup" | "cgroup2")
    }

    /// Whether it shows the container its cgroups, to write to.
    #[must_use]
    pub fn is_writable_cgroup(&self) -> bool {
        self.is_cgroup() && self.options.attributes.set & attr::RDONLY == 0
    }

    /// The source of a bind mount, absolute.
    #[must_use]
    pub fn source(&self) -> &Path {
        &self.source
    }

    fn describe(&self) -> String {
        let kind = if self.options.bind { "bind" } else { &self.mount.kind };
        let source = if self.options.bind { &self.source } else { &self.mount.source };
        format!("error mounting {:?} to rootfs at {:?} ({kind})", source, self.mount.destination)
    }

    /// A tmpfs is empty at first: it is filled before it is read-only.
    fn is_sealed_last(&self) -> bool {
        let fresh = self.mount.kind == "tmpfs" || self.options.copy_up;
        fresh && self.options.attributes.set & attr::RDONLY != 0
    }

    fn try_perform(
        &self,
        root: &Root,
        label: Option<Label<'_>>,
        ready: Option<OwnedFd>,
    ) -> Result<Option<OwnedFd>> {
        if self.options.remount {
            return self.remount(root).map(|()| None);
        }
        if self.options.bind {
            if self.options.copy_symlink && self.copy_link(root)? {
                return Ok(None);
            }
            let tree = match &self.tree {
                Some(tree) => tree.try_clone()?,
                None => self.copy_source_for(root)?,
            };
            self.shift.as_ref().map_or(Ok(()), |shift| shift.apply(&tree))?;
            let place = self.place_for(root, &tree)?;
            return self.attach_tree(&tree, &place).map(|()| None);
        }
        let (place, mode) = self.directory_with_mode(root)?;
        if self.mount.options.iter().any(|option| option.len() > LONGEST_VALUE) {
            return self.mount_by_path(root, &place, label, mode).map(|()| None);
        }
        match ready.map_or_else(|| self.filesystem(label, mode), Ok) {
            Ok(mount) => {
                self.attach_new(&mount, &place)?;
                Ok(self.is_sealed_last().then_some(mount))
            }
            Err(err) => match self.host_copy(&err) {
                Some(copy) => {
                    let copy = copy?;
                    // With all that the host has mounted in it, which is not to be more than it would be.
                    let also = Attributes { set: self.options.attributes.set, ..Attributes::default() };
                    sys::mount::set_attributes(copy.as_fd(), also, true).context("set its options")?;
                    self.attach_tree(&copy, &place).map(|()| None)
                }
                None => Err(err),
            },
        }
    }

    fn copy_source_for(&self, root: &Root) -> io::Result<OwnedFd> {
        let Some(inside) = &self.inside else { return self.copy_source() };
        let nofollow = if self.options.source_nofollow { OFlag::O_NOFOLLOW } else { OFlag::empty() };
        let source = root.open_in(inside, OFlag::O_PATH | nofollow, Mode::empty())?;
        sys::mount::copy_tree(source.as_fd(), Path::new(""), self.options.recursive, false)
    }

    fn copy_source(&self) -> io::Result<OwnedFd> {
        sys::mount::copy_tree(AT_FDCWD, &self.source, self.options.recursive, self.options.source_nofollow)
    }

    /// The host's own, read as our container may see it, where a user namespace without a network, IPC or PID
    /// namespace of its own may not mount a fresh one.
    fn host_copy(&self, err: &anyhow::Error) -> Option<io::Result<OwnedFd>> {
        let denied = err
            .downcast_ref::<io::Error>()
            .is_some_and(|err| matches!(err.raw_os_error(), Some(nix::libc::EPERM | nix::libc::EBUSY)))
            || format!("{err:#}").contains("not permitted");
        let path = match self.mount.kind.as_str() {
            "sysfs" => "/sys",
            "mqueue" => "/dev/mqueue",
            "proc" => "/proc",
            _ => return None,
        };
        denied.then(|| sys::mount::copy_tree(AT_FDCWD, Path::new(path), true, false))
    }

    fn filesystem(&self, label: Option<Label<'_>>, mode: Option<String>) -> Result<OwnedFd> {
        let kind = self.mount.kind.as_str();
        let filesystem = Filesystem::open(kind).with_context(|| format!("file system type {kind:?}"))?;
        if let Some(source) = self.mount.source.to_str().filter(|source| !source.is_empty()) {
            filesystem.set("source", source).context("source")?;
        }
        for item in self.options.data.iter().flat_map(|data| label::items(data)) {
            let set = match item.split_once('=') {
                Some((key, value)) => filesystem.set(key, label::unquoted(key, value)),
                None => filesystem.set_flag(item),
            };
            set.with_context(|| format!("option {item:?}"))?;
        }
        if let Some(mode) = &mode {
            filesystem.set("mode", mode).context("mode")?;
        }
        for flag in &self.options.flags {
            filesystem.set_flag(flag).with_context(|| format!("option {flag:?}"))?;
        }
        if let Some(label) = label {
            label.set(&filesystem, kind, &self.options.data).context("linux.mountLabel")?;
        }
        let mut attributes = self.options.attributes.set;
        if self.is_sealed_last() {
            attributes &= !attr::RDONLY;
        } else if attributes & attr::RDONLY != 0 && self.mount.source.starts_with("/dev") {
            // A device must not be written to either, not even to replay its journal.
            filesystem.set_flag("ro").context("option \"ro\"")?;
        }
        let mount = filesystem.mount(attributes)?;
        if let Some(label) = label {
            label.mark(kind, &mount).context("linux.mountLabel")?;
        }
        Ok(mount)
    }

    fn attach_new(&self, mount: &OwnedFd, place: &OwnedFd) -> Result<()> {
        if self.options.copy_up {
            copy_up::copy(place, mount).context("tmpcopyup")?;
        }
        if self.options.recursive_attributes != Attributes::default() {
            sys::mount::set_attributes(mount.as_fd(), self.options.recursive_attributes, true)
                .context("set its options")?;
        }
        sys::mount::attach(mount.as_fd(), place.as_fd())?;
        self.propagate(mount)
    }

    fn attach_tree(&self, tree: &OwnedFd, place: &OwnedFd) -> Result<()> {
        self.set_attributes(tree)?;
        sys::mount::attach(tree.as_fd(), place.as_fd())?;
        self.propagate(tree)
    }

    fn set_attributes(&self, mount: &OwnedFd) -> Result<()> {
        for (attributes, recursive) in
            [(self.options.attributes, false), (self.options.recursive_attributes, true)]
        {
            if attributes != Attributes::default() {
                sys::mount::set_attributes(mount.as_fd(), attributes, recursive)
                    .context("set its options")?;
            }
        }
        Ok(())
    }

    fn propagate(&self, mount: &OwnedFd) -> Result<()> {
        for &propagation in &self.options.propagation {
            propagation::set(mount.as_fd(), propagation).context("set its propagation")?;
        }
        Ok(())
    }

    fn remount(&self, root: &Root) -> Result<()> {
        let mount = root.open_in(&self.mount.destination, OFlag::O_PATH, Mode::empty())?;
        self.set_attributes(&mount)?;
        self.propagate(&mount)
    }

    /// By `mount(2)`, for options longer than `fsconfig(2)` takes. The place is named by our own descriptor in the
    /// host's `/proc`, which still is the one at `/proc`.
    fn mount_by_path(
        &self,
        root: &Root,
        place: &OwnedFd,
        label: Option<Label<'_>>,
        mode: Option<String>,
    ) -> Result<()> {
        let path = PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()));
        let kind = self.mount.kind.as_str();
        let mut data = self.options.data.clone();
        data.extend(mode.map(|mode| format!("mode={mode}")));
        data.extend(label.and_then(|label| label.item(kind, &self.options.data)));
        let data = data.join(",");
        nix::mount::mount(
            Some(&self.mount.source),
            &path,
            Some(kind),
            MsFlags::empty(),
            Some(data.as_str()),
        )?;
        self.remount(root)
    }

    fn copy_link(&self, root: &Root) -> Result<bool> {
        let target = match readlink(&self.source) {
            Ok(target) => target,
            Err(Errno::EINVAL) => return Ok(false),
            Err(err) => return Err(err.into()),
        };
        let destination = &self.mount.destination;
        let place = root.mkdir_all(destination.parent().unwrap_or(Path::new("/")), DIRECTORY)?;
        let name: &OsStr = destination.file_name().unwrap_or_default();
        match symlinkat(&*target, &place, name) {
            Ok(()) => Ok(true),
            Err(Errno::EEXIST) if nix::fcntl::readlinkat(&place, name) == Ok(target) => Ok(true),
            Err(err) => Err(err.into()),
        }
    }
}
