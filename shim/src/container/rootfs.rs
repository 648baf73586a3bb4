//! Where a container's files can be seen. One that runs has its own copy of the mount, and the host's is let go: every
//! container that starts later would begin with a copy of that too, so that a thousand made each start twice as slow.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::container::{Container, Status};
use contracts::process::Process;
use nix::mount::{MntFlags, umount2};

use super::Store;
use super::unmount::holds;
use crate::tools;

/// The root of a container's files: as its processes see them, volumes included, or where they are or can be mounted.
pub fn path(status: &Status, bundle: &Path) -> PathBuf {
    match running(status) {
        Some(process) => PathBuf::from(format!("/proc/{}/root", process.pid)),
        None => bundle.join("rootfs"),
    }
}

/// The mount of a running container's root alone, attached nowhere; gone with the descriptor.
pub fn copy(process: Process) -> Result<OwnedFd> {
    sys::mount::root_of(process.pid, || process.is_running()).context("copy the container's mount")
}

/// Takes the files of a container that runs off the host, unless a user holds them there. Where the ids of its files are
/// shifted they stay: what is locked in a user namespace cannot be copied out of it.
pub fn let_go(store: &Store, record: &Container) {
    if record.host_config.id_mappings.is_none() && holds(store, &record.id) == 0 {
        hide(&store.bundle(&record.id));
    }
}

/// Not mounted is fine; and nothing breaks where it stays: it is cleared away with the container's end, or its next.
fn hide(bundle: &Path) {
    let _ = umount2(&bundle.join("rootfs"), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
}

/// The files are mounted in the bundle; gone when dropped. Whoever asks holds the container's lock.
pub struct Shown<'a> {
    bundle: &'a Path,
    here: bool,
}

/// Mounts a container's files in its bundle, without its volumes, unless they are.
pub fn show<'a>(status: &Status, bundle: &'a Path) -> Result<Shown<'a>> {
    let here = !tools::is_mounted(bundle);
    match running(status).filter(|_| here) {
        None => tools::mount(bundle)?,
        Some(process) => {
            let at = bundle.join("rootfs");
            let place = File::open(&at).with_context(|| format!("open {}", at.display()))?;
            sys::mount::attach(copy(process)?.as_fd(), place.as_fd())
                .with_context(|| format!("mount the container's files on {}", at.display()))?;
        }
    }
    Ok(Shown { bundle, here })
}

impl Shown<'_> {
    /// They stay mounted.
    pub fn keep(mut self) {
        self.here = false;
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if self.here {
            hide(self.bundle);
        }
    }
}

/// Its first process, where it runs.
pub fn running(status: &Status) -> Option<Process> {
    status.process.filter(|process| status.state.is_live() && process.is_running())
}
