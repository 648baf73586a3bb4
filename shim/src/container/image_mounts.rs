//! `--mount type=image`: the files of another image, as a bundle of their own beside the container's. Nothing of it is
//! executed; what the container writes there, where it may, stays with the container.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::container::{Container, MountPoint};
use contracts::fault;
use contracts::fault::Kind;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::path::Root;

use super::create::Source;
use super::make_dir;
use crate::tools;

fn dir(bundle: &Path) -> PathBuf {
    bundle.with_file_name("images")
}

/// The root of the image that mount point number `index` of the record is about.
pub fn rootfs(bundle: &Path, index: usize) -> PathBuf {
    dir(bundle).join(index.to_string()).join("rootfs")
}

fn of(record: &Container) -> impl Iterator<Item = (usize, &MountPoint)> {
    record.mounts.iter().enumerate().filter(|(_, point)| point.kind == "image")
}

/// Makes the bundles of a new container, and mounts them.
pub fn make(source: &Source<'_>, record: &mut Container, bundle: &Path) -> Result<()> {
    let shared = record.clone();
    for (index, point) in record.mounts.iter_mut().enumerate().filter(|(_, point)| point.kind == "image") {
        make_dir(&dir(bundle))?;
        let mut command = source.bundle();
        command.args(["--name", &format!("{}-image-{index}", shared.id)]);
        tools::map_ids(&mut command, &shared);
        command.arg(&point.name).arg(dir(bundle).join(index.to_string()));
        source.run(&mut command).with_context(|| format!("mount image {}", point.name))?;
        let rootfs = rootfs(bundle, index);
        if point.subpath.is_empty() {
            point.source = rootfs.display().to_string();
            continue;
        }
        let found = Root::open(&rootfs)?.open_in(Path::new(&point.subpath), OFlag::O_PATH, Mode::empty());
        if found.is_err() {
            fault!(NotFound, "image {}: no such subpath: {}", point.name, point.subpath);
        }
    }
    Ok(())
}

/// Mounts them again for a container about to start.
pub fn mount(record: &Container, bundle: &Path) -> Result<()> {
    for (index, point) in of(record) {
        tools::mount(&dir(bundle).join(index.to_string()))
            .with_context(|| format!("mount image {}", point.name))?;
    }
    Ok(())
}

/// Unmounts them.
pub fn unmount(bundle: &Path) -> Result<()> {
    for image in list(bundle).filter(|image| tools::is_mounted(image)) {
        tools::run(tools::imgtool("umount").arg(&image))?;
    }
    Ok(())
}

/// Removes them.
pub fn remove(bundle: &Path) -> Result<()> {
    for image in list(bundle) {
        unbundle(&image)?;
    }
    let _ = fs::remove_dir(dir(bundle));
    Ok(())
}

/// `imgtool unbundle`.
pub fn unbundle(bundle: &Path) -> Result<()> {
    if bundle.exists()
        && let Err(err) = tools::run(tools::imgtool("unbundle").arg(bundle))
    {
        // Killed before it was anything: an empty directory that imgtool knows nothing of.
        if Kind::of(&err) != Some(Kind::WrongState) || tools::is_mounted(bundle) {
            return Err(err);
        }
    }
    Ok(())
}

fn list(bundle: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir(bundle)).into_iter().flatten().flatten().map(|entry| entry.path())
}
