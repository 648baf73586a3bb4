//! What of a new root file system needs none of the container's namespaces: its own mount, those of memory file systems, and
//! `/dev` with all that is in it. The runtime makes them, attached nowhere yet, while the process makes its network namespace.
//!
//! What cannot be made like that is left to the process, as everything is where there is no time to be won; and so is saying why.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use super::destination::without_dots;
use super::mount::Planned;
use super::options::Propagation;
use super::{devices, propagation};
use crate::log;
use crate::spec::linux::Device;

/// More would not fit into one message beside the cgroups.
const MOST: usize = 8;
const DEV: &str = "/dev";

const HAS_ROOT: u8 = 1;
const HAS_DEVICES: u8 = 2;

/// Mounts that have only to be attached.
#[derive(Debug, Default)]
pub struct Ready {
    /// That of the root file system.
    pub root: Option<OwnedFd>,
    /// Those of the plan, each with its index in it.
    mounts: Vec<(u8, OwnedFd)>,
    /// Whether that of `/dev` is among them, with its nodes and links.
    pub has_devices: bool,
}

impl Ready {
    /// Makes what can be made of `plan` and the root file system, for a container in this user namespace whose file systems
    /// get no label.
    #[must_use]
    pub fn make(rootfs: &Path, propagation: Propagation, plan: &[Planned<'_>], devices: &[Device]) -> Self {
        // The root first, or nothing: /proc/mounts lists mounts in the order in which they were made.
        let Some(root) = propagation::copy_ahead(rootfs, propagation) else { return Self::default() };
        let mut ready = Self { root: Some(root), ..Self::default() };
        // Modes of nodes are meant as they are.
        let before = umask(Mode::empty());
        for (index, planned) in (0..=u8::MAX).zip(plan) {
            if ready.mounts.len() == MOST {
                break;
            }
            let Some(mount) = planned.make_unattached() else { continue };
            if without_dots(&planned.mount.destination) == Path::new(DEV) && is_plain(plan, devices) {
                if devices::fill_new(&mount, devices).is_err() {
                    continue;
                }
                ready.has_devices = true;
            }
            ready.mounts.push((index, mount));
        }
        umask(before);
        log::debug(format_args!("made ahead: {} mounts, devices: {}", ready.mounts.len(), ready.has_devices));
        ready
    }

    /// The mount of the plan's entry `index`.
    pub fn take(&mut self, index: usize) -> Option<OwnedFd> {
        let at = self.mounts.iter().position(|(of, _)| usize::from(*of) == index)?;
        Some(self.mounts.swap_remove(at).1)
    }

    /// As a message, whose descriptors are [`Self::descriptors`].
    pub fn encode(&self) -> impl Iterator<Item = u8> {
        let flags =
            if self.root.is_some() { HAS_ROOT } else { 0 } | if self.has_devices { HAS_DEVICES } else { 0 };
        std::iter::once(flags).chain(self.mounts.iter().map(|(index, _)| *index))
    }

    /// Those of the mounts.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.root.iter().chain(self.mounts.iter().map(|(_, mount)| mount)).map(OwnedFd::as_fd)
    }

    /// What [`Self::encode`] wrote, with the last of `fds` as its descriptors.
    #[must_use]
    pub fn decode(bytes: &[u8], fds: &mut Vec<OwnedFd>) -> Self {
        let (flags, indices) = bytes.split_first().unwrap_or((&0, &[]));
        let has_root = flags & HAS_ROOT != 0;
        let ours = indices.len() + usize::from(has_root);
        let mut mounts = fds.split_off(fds.len().saturating_sub(ours)).into_iter();
        Self {
            root: if has_root { mounts.next() } else { None },
            mounts: indices.iter().copied().zip(mounts).collect(),
            has_devices: flags & HAS_DEVICES != 0,
        }
    }
}

/// Whether what is in `/dev` does not depend on what is mounted in it, nor on what is mounted there besides.
fn is_plain(plan: &[Planned<'_>], devices: &[Device]) -> bool {
    let is_below =
        |device: &Device| device.path.parent() == Some(Path::new(DEV)) && device.path.file_name().is_some();
    let mut places = plan.iter().map(|planned| without_dots(&planned.mount.destination));
    places.clone().filter(|place| place == Path::new(DEV)).count() == 1
        && devices.iter().all(is_below)
        && !places.any(|place| devices::names(devices).any(|name| place == Path::new(DEV).join(name)))
}
