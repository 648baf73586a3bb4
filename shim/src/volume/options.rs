//! Volumes with options of their own (`type=tmpfs`, `type=nfs`, `o=bind`): what the options name is mounted over the volume's
//! directory while a container that uses it lives, and at no other time: a reboot takes it away, the next start brings it back.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contracts::container::Container;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Volume, data, load, lock, users};
use crate::container::Store;

/// Mounts what the options of `record`'s volumes name. The container's live side must exist: it is what keeps them.
pub fn mount_all(store: &Store, record: &Container) -> Result<()> {
    for volume in with_options(store, record)? {
        let lock = lock(store)?;
        mount_one(store, &volume)?;
        drop(lock);
    }
    Ok(())
}

/// Unmounts those volumes of `record` that no other container uses at the moment.
pub fn release(store: &Store, record: &Container) -> Result<()> {
    for volume in with_options(store, record)? {
        let lock = lock(store)?;
        let used = |id: &String| *id != record.id && store.live(id).exists();
        if !users(store, &volume.name)?.iter().any(used) {
            unmount(store, &volume.name)?;
        }
        drop(lock);
    }
    Ok(())
}

fn with_options(store: &Store, record: &Container) -> Result<Vec<Volume>> {
    let mut found = Vec::new();
    for point in record.mounts.iter().filter(|point| point.kind == "volume") {
        found.extend(load(store, &point.name)?.filter(|volume| !volume.options.is_empty()));
    }
    Ok(found)
}

/// Mounts one, unless it is; the caller holds the volumes' lock.
pub fn mount_one(store: &Store, volume: &Volume) -> Result<()> {
    let target = data(store, &volume.name);
    if volume.options.is_empty() || is_mount(&target)? {
        return Ok(());
    }
    let option = |key: &str| volume.options.get(key).map(String::as_str).unwrap_or_default();
    let mut flags = MsFlags::empty();
    let mut rest = Vec::new();
    for word in option("o").split(',').filter(|word| !word.is_empty()) {
        match word {
            "bind" => flags |= MsFlags::MS_BIND,
            "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "rw" => {}
            other => rest.push(other),
        }
    }
    let context = || format!("mount volume {}", volume.name);
    mount(Some(option("device")), &target, Some(option("type")), flags, Some(rest.join(",").as_str()))
        .with_context(context)?;
    // A bind mount takes its flags only when it is there.
    let later = flags.difference(MsFlags::MS_BIND | MsFlags::MS_REC);
    if flags.contains(MsFlags::MS_BIND) && !later.is_empty() {
        let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | later;
        mount(None::<&str>, &target, None::<&str>, again, None::<&str>).with_context(context)?;
    }
    Ok(())
}

/// Takes away what [`mount_one`] mounted; the caller holds the volumes' lock. When it returns, what is in the volume's
/// directory is the volume's own.
pub fn unmount(store: &Store, name: &str) -> Result<()> {
    let target = data(store, name);
    for _ in 0..100 {
        if !is_mount(&target)? {
            return Ok(());
        }
        umount2(&target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .with_context(|| format!("unmount volume {name}"))?;
    }
    bail!("unmount volume {name}: it is mounted again and again")
}

fn is_mount(path: &Path) -> Result<bool> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.with_context(|| format!("open {}", path.display()))?,
    };
    sys::mount::is_mount_root(&file).with_context(|| format!("stat {}", path.display()))
}
