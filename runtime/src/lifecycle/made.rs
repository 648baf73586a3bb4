//! What a creation or a restore has made so far, and its undoing.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use crate::container::directory::Directory;
use crate::rootfs::shared;
use crate::{cgroup, intel_rdt, log};

/// What exists so far.
#[derive(Debug, Default)]
pub struct Made {
    /// The part of the cgroup that is ours to remove.
    pub cgroup: Option<cgroup::Location>,
    /// The process.
    pub pidfd: Option<OwnedFd>,
    /// The terminal's master end, until somebody else has got it.
    pub terminal: Option<OwnedFd>,
    /// The root that lies in the runtime's mount namespace: its tree until it is used, its path, its id.
    pub shared_root: Option<(Option<OwnedFd>, PathBuf, u64)>,
    /// Groups of Intel RDT.
    pub intel_rdt: Option<intel_rdt::Group>,
}

impl Made {
    /// Removes it all, and the container's directory.
    pub fn undo(self, directory: &Directory) {
        if let Some(pidfd) = &self.pidfd {
            kill_and_reap(pidfd);
        }
        let removed = self.cgroup.map_or(Ok(()), |location| {
            location.kill_all()?;
            location.remove()
        });
        let removed = removed.and(self.intel_rdt.map_or(Ok(()), |group| group.remove()));
        let unmounted = self.shared_root.map_or(Ok(()), |(_, rootfs, id)| shared::undo(&rootfs, id));
        if let Err(err) = removed.and(unmounted).and_then(|()| directory.remove()) {
            log::warn(&format!("clean up after a failure: {err:#}"));
        }
    }
}

fn kill_and_reap(pidfd: &OwnedFd) {
    let _ = sys::pidfd::send_signal(pidfd, libc::SIGKILL);
    let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED);
}
