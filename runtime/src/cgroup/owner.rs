//! Whose a container's cgroup is: its own user's, where it may make cgroups in it ("cgroup ownership" in the specification).

use std::fs;
use std::io::{self, ErrorKind};

use anyhow::{Context as _, Result};
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchown, fchownat};

use super::Cgroup;
use super::file::Dir;
use crate::spec::linux::IdMapping;

/// Where the kernel lists the files that go with a delegated directory.
const DELEGATE: &str = "/sys/kernel/cgroup/delegate";

/// The host's number for the container's `id`; `None` where the container does not have it.
#[must_use]
pub fn on_host(id: u32, maps: &[IdMapping]) -> Option<u32> {
    let map = maps.iter().find(|map| id >= map.container_id && id - map.container_id < map.size)?;
    map.host_id.checked_add(id - map.container_id)
}

/// Whether we may not do this to cgroups here, and the container can live with it.
pub fn may_go_without(rootless: bool, err: &anyhow::Error) -> bool {
    let refused = err
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| matches!(cause.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem));
    refused && super::may_be_none(rootless)
}

impl Cgroup {
    /// Gives the cgroup to the user `uid` of the host: the directory, and those of its files that move processes and
    /// controllers, never a limit. Only the unified hierarchy is safe to give away.
    ///
    /// # Errors
    /// Whatever `fchownat(2)` says; a rootless runtime goes on without.
    pub fn give_to(&self, uid: u32, rootless: bool) -> Result<()> {
        let [dir] = self.dirs.as_slice() else { return Ok(()) };
        if !dir.is_unified() {
            return Ok(());
        }
        match give(dir, uid) {
            Err(err) if may_go_without(rootless, &err) => Ok(()),
            other => other,
        }
    }
}

/// Gives one directory to the user `uid`, as [`Cgroup::give_to`] does.
pub(super) fn give(dir: &Dir, uid: u32) -> Result<()> {
    if uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let files = fs::read_to_string(DELEGATE)
        .unwrap_or_else(|_| "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n".to_owned());
    let owner = Some(Uid::from_raw(uid));
    let change = || -> io::Result<()> {
        fchown(dir, owner, None)?;
        for file in files.lines() {
            match fchownat(dir, file, owner, None, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(io::Error::from) {
                // Files of controllers that are not enabled here.
                Err(err) if err.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    };
    change().with_context(|| format!("give cgroup {} to user {uid}", dir.path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_host() {
        let maps = [
            IdMapping { container_id: 0, host_id: 1000, size: 1 },
            IdMapping { container_id: 1, host_id: 100_000, size: 65_536 },
        ];
        assert_eq!(on_host(0, &maps), Some(1000));
        assert_eq!(on_host(5, &maps), Some(100_004));
        assert_eq!(on_host(65_537, &maps), None);
        assert_eq!(on_host(7, &[IdMapping { container_id: 0, host_id: u32::MAX, size: 9 }]), None);
    }
}
