//! Root file systems: overlays of layers.

pub mod shift;
pub mod view;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use sys::overlay::{Overlay, mount};

use self::shift::Shifted;
use crate::layer::extracted::Layers;
use crate::layer::owner::Maps;

/// The parts of an overlay in one directory.
#[derive(Debug, Clone)]
pub struct RootFs {
    /// Where it is mounted.
    pub target: PathBuf,
    /// Changes.
    pub upper: PathBuf,
    /// overlayfs' own.
    pub work: PathBuf,
}

impl RootFs {
    /// The usual names below `dir`.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { target: dir.join("rootfs"), upper: dir.join("upper"), work: dir.join("work") }
    }

    /// Makes the directories. The upper one takes the looks of the topmost layer's root: overlayfs shows those of the
    /// upper directory. (With `maps`, for their owners.)
    ///
    /// # Errors
    /// No space, no permission.
    pub fn create(&self, lowers: &[PathBuf], maps: Option<&Maps>) -> Result<()> {
        for path in [&self.target, &self.upper, &self.work] {
            fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
        }
        let (uid, gid, mode) = match lowers.last() {
            Some(top) => {
                let top = fs::symlink_metadata(top).with_context(|| format!("stat {}", top.display()))?;
                (top.uid(), top.gid(), top.mode() & 0o7777)
            }
            None => (0, 0, 0o755),
        };
        let (uid, gid) = maps.map_or((uid, gid), |maps| maps.outside(uid, gid));
        if crate::rootless::gives_away() {
            chown(&self.upper, Some(uid), Some(gid)).context("chown the upper directory")?;
        }
        fs::set_permissions(&self.upper, fs::Permissions::from_mode(mode))
            .context("chmod the upper directory")
    }

    /// Mounts `lowers` (lowest first) under the upper directory. Already mounted is fine. `volatile`: the changes are
    /// worthless after a crash of the machine, so syncs are skipped.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn mount(&self, layers: &Layers, lowers: &[PathBuf], volatile: bool) -> Result<()> {
        if is_mount(&self.target)? {
            return Ok(());
        }
        let empty = layers.empty()?;
        let mut top_first: Vec<&Path> = lowers.iter().rev().map(PathBuf::as_path).collect();
        if top_first.is_empty() {
            top_first.push(&empty);
        }
        let user_xattr = !crate::rootless::is_real_root();
        let overlay =
            Overlay { lowers: &top_first, upper: Some((&self.upper, &self.work)), volatile, user_xattr };
        match mount(&overlay, &self.target) {
            Err(err) if matches!(err.raw_os_error(), Some(nix::libc::ENODEV)) => {
                fault!(Unsupported, "mount {}: this kernel has no overlayfs", self.target.display())
            }
            other => other.with_context(|| format!("mount overlay on {}", self.target.display())),
        }
    }

    /// [`RootFs::mount`] with the owners of all files shifted by `maps`.
    ///
    /// # Errors
    /// As [`RootFs::mount`]; a file system that cannot be shifted.
    pub fn mount_shifted(&self, layers: &Layers, lowers: &[PathBuf], maps: &Maps) -> Result<()> {
        if is_mount(&self.target)? {
            return Ok(());
        }
        let bundle = self.target.parent().context("a rootfs without a bundle")?;
        let mut shifted = Shifted::begin(bundle, maps)?;
        let empty = [layers.empty()?];
        let all = if lowers.is_empty() { &empty } else { lowers };
        let lowers = all.iter().map(|lower| shifted.add(lower)).collect::<Result<Vec<PathBuf>>>()?;
        // Not the upper directory: overlayfs makes files of root's in it, for whom the maps have no id.
        self.mount(layers, &lowers, false)
    }

    /// Unmounts it; not mounted is fine.
    ///
    /// # Errors
    /// [`contracts::fault::Kind::Busy`] where something inside is in use.
    pub fn unmount(&self) -> Result<()> {
        self.unmount_with(MntFlags::UMOUNT_NOFOLLOW)
    }

    /// Unmounts it even while something inside is in use; that goes on until it is closed.
    ///
    /// # Errors
    /// No permission.
    pub fn detach(&self) -> Result<()> {
        self.unmount_with(MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH)
    }

    fn unmount_with(&self, flags: MntFlags) -> Result<()> {
        // More than once where a crashed command was repeated on top of itself.
        loop {
            match umount2(&self.target, flags) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
                Err(Errno::EBUSY) => {
                    fault!(Busy, "unmount {}: something inside is in use", self.target.display())
                }
                Err(err) => return Err(err).with_context(|| format!("unmount {}", self.target.display())),
            }
        }
    }
}

/// Whether `path` is the root of a mount: its device differs from its parent's. (An overlay always has its own.)
///
/// # Errors
/// It cannot be looked at.
pub fn is_mount(path: &Path) -> Result<bool> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    match (fs::symlink_metadata(path), fs::symlink_metadata(parent)) {
        (Ok(own), Ok(parent)) => Ok(own.dev() != parent.dev()),
        (Err(err), _) | (_, Err(err)) if err.kind() != ErrorKind::NotFound => {
            Err(err).with_context(|| format!("stat {}", path.display()))
        }
        _ => Ok(false),
    }
}
