//! Mounts that show an image's files with other owners: each layer through a mount whose ids a user namespace's maps
//! shift (Linux 5.19), so that layers stay shared. Changes have the owners of the host, and are mapped back when they are
//! committed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::mount::{MntFlags, umount2};
use sys::mount::{Attributes, attr};

use crate::layer::owner::Maps;

/// The name in a bundle of the directory where the mounts are attached until the overlay has them.
const PLACE: &str = "ids";

/// Shifted mounts; gone when dropped. (An overlay keeps what it is made of.)
pub struct Shifted {
    bundle: PathBuf,
    namespace: OwnedFd,
    count: usize,
}

impl Shifted {
    /// Begins in the directory `bundle`.
    ///
    /// # Errors
    /// The kernel refuses the maps.
    pub fn begin(bundle: &Path, maps: &Maps) -> Result<Self> {
        clear(bundle)?;
        let place = bundle.join(PLACE);
        fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
        let namespace = sys::namespace::user_alone(|pid| maps.write(pid)).context("map ids")?;
        Ok(Self { bundle: bundle.to_owned(), namespace, count: 0 })
    }

    /// Where `directory` can be seen with shifted owners.
    ///
    /// # Errors
    /// `Unsupported` where its file system cannot be shifted.
    pub fn add(&mut self, directory: &Path) -> Result<PathBuf> {
        let at = self.bundle.join(PLACE).join(self.count.to_string());
        self.count += 1;
        fs::create_dir(&at).with_context(|| format!("make {}", at.display()))?;
        let open = |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
        let here = open(directory)?;
        let tree = sys::mount::copy_tree(here.as_fd(), Path::new(""), false, true)
            .with_context(|| format!("copy the mount of {}", directory.display()))?;
        self.shift(tree.as_fd(), directory)?;
        sys::mount::attach(tree.as_fd(), open(&at)?.as_fd()).context("attach a shifted mount")?;
        Ok(at)
    }

    fn shift(&self, tree: BorrowedFd<'_>, directory: &Path) -> Result<()> {
        let attributes = Attributes {
            set: attr::IDMAP,
            userns_fd: u64::from(self.namespace.as_raw_fd().cast_unsigned()),
            ..Attributes::default()
        };
        match sys::mount::set_attributes(tree, attributes, false) {
            Err(err) if matches!(err.raw_os_error(), Some(nix::libc::EINVAL | nix::libc::ENOSYS)) => {
                fault!(
                    Unsupported,
                    "{}: its file system cannot be mounted with other ids",
                    directory.display()
                )
            }
            other => other.context("shift the ids of a mount"),
        }
    }
}

impl Drop for Shifted {
    fn drop(&mut self) {
        // What stays is cleared away by the next mount of the bundle, or with it.
        let _ = clear(&self.bundle);
    }
}

/// Takes away what is attached in `bundle`; nothing is fine.
///
/// # Errors
/// No permission.
pub fn clear(bundle: &Path) -> Result<()> {
    let place = bundle.join(PLACE);
    let entries = match fs::read_dir(&place) {
        Ok(entries) => entries,
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        Err(err) => return Err(err).with_context(|| format!("read {}", place.display())),
    };
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", place.display()))?.path();
        let _ = umount2(&path, MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH);
        // Never with its content: what is mounted here lives elsewhere.
        fs::remove_dir(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    fs::remove_dir(&place).with_context(|| format!("remove {}", place.display()))
}
