//! `volume-subpath`, `image-subpath`: a directory or file inside a volume or image, mounted beside the container's bundle at each start.
//!
//! Whoever has it can put a link anywhere in it, at any time: the place is resolved by the kernel under the
//! volume's root and mounted by its descriptor, never by a path that a runtime would follow out of the volume.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::container::Container;
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, fstat};
use sys::path::{Root, file_type};

use super::{Store, image_mounts};
use crate::volume;

/// Where the mount point number `index` of the record finds its subpath.
pub fn place(bundle: &Path, index: usize) -> PathBuf {
    bundle.join("subpaths").join(index.to_string())
}

/// Mounts those of a container about to start.
pub fn make(store: &Store, record: &Container) -> Result<()> {
    let bundle = store.bundle(&record.id);
    remove(&bundle)?;
    for (index, point) in record.mounts.iter().enumerate().filter(|(_, point)| !point.subpath.is_empty()) {
        let place = place(&bundle, index);
        let what = || format!("mount {} of {} {}", point.subpath, point.kind, point.name);
        let whole = match point.kind.as_str() {
            "image" => image_mounts::rootfs(&bundle, index),
            _ => volume::data(store, &point.name),
        };
        let root = Root::open(&whole).with_context(what)?;
        let fd = match root.open_in(Path::new(&point.subpath), OFlag::O_PATH, Mode::empty()) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                fault!(NotFound, "{} {}: no such subpath: {}", point.kind, point.name, point.subpath)
            }
            other => other.with_context(what)?,
        };
        fs::create_dir_all(bundle.join("subpaths")).with_context(what)?;
        if file_type(fstat(&fd).with_context(what)?.st_mode) == SFlag::S_IFDIR {
            fs::create_dir_all(&place).with_context(what)?;
        } else {
            fs::File::create(&place).with_context(what)?;
        }
        let source = format!("/proc/self/fd/{}", fd.as_raw_fd());
        mount(Some(source.as_str()), &place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .with_context(what)?;
    }
    Ok(())
}

/// Unmounts them, whatever is there.
pub fn remove(bundle: &Path) -> Result<()> {
    let dir = bundle.join("subpaths");
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(err) => return Err(err).with_context(|| format!("unmount {}", path.display())),
        }
        // Empty, and not a mount any more: never more than the name itself goes.
        let _ = fs::remove_dir(&path).or_else(|_| fs::remove_file(&path));
    }
    let _ = fs::remove_dir(&dir);
    Ok(())
}
