//! /dev/shm of a container with `--ipc shareable`: a tmpfs beside its bundle, which whoever joins its IPC namespace
//! mounts, too. One inside its mount namespace could not be shared: the kernel lets nobody else bind it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::container::Container;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::Store;

/// Where it is mounted, in this machine's namespace.
pub fn place(bundle: &Path) -> PathBuf {
    bundle.join("shm")
}

/// Mounts it for a container about to start, unless it has none.
pub fn make(store: &Store, record: &Container) -> Result<()> {
    if record.host_config.ipc_mode != "shareable" {
        return Ok(());
    }
    let bundle = store.bundle(&record.id);
    remove(&bundle)?;
    let place = place(&bundle);
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (uid, gid) = record.host_config.id_mappings.as_ref().map_or((0, 0), |maps| maps.outside(0, 0));
    let data = format!("mode=1777,size={},uid={uid},gid={gid}", record.host_config.shm_size);
    mount(Some("shm"), &place, Some("tmpfs"), flags, Some(data.as_str()))
        .with_context(|| format!("mount shared memory on {}", place.display()))
}

/// Unmounts it where it is mounted; those who still use it keep it.
pub fn remove(bundle: &Path) -> Result<()> {
    let place = place(bundle);
    let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev());
    if !matches!((device(bundle), device(&place)), (Ok(outside), Ok(inside)) if outside != inside) {
        return Ok(());
    }
    match umount2(&place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(err) => Err(err).with_context(|| format!("unmount {}", place.display())),
    }
}
