//! Work directories of running builds: `STORE/build/work/<id>/`, each locked by its owner while it lives.
//!
//! A build works in a mount namespace of its own, so a killed one leaves nothing mounted. What it may leave is a
//! directory, whose lock is then free, a container still running in it, and a network: the next build removes them.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use contracts::paths::Paths;
use nix::mount::{MntFlags, MsFlags};

/// A directory for one step.
#[derive(Debug)]
pub struct Work {
    id: String,
    path: PathBuf,
    /// Whether it stays for the next build's sweep.
    is_left: AtomicBool,
    _lock: File,
}

impl Work {
    /// Makes one.
    ///
    /// # Errors
    /// No space, no permission.
    pub fn new(paths: &Paths) -> Result<Self> {
        let id = format!("build-{}", random_hex()?);
        let path = root(paths).join(&id);
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        let lock = File::open(&path)?;
        lock.lock().with_context(|| format!("lock {}", path.display()))?;
        Ok(Self { id, path, is_left: AtomicBool::new(false), _lock: lock })
    }

    /// Also the id of the container that runs in it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it to the next build, which is to try once more to remove the container, or the network.
    pub fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::leave`] was called.
    pub fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Relaxed)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.is_left() {
            clear(&self.path);
        }
    }
}

/// Leaves the mounts of the machine: what is mounted from here on is seen by this process and its children only.
/// Call it before any thread is started.
///
/// # Errors
/// Not allowed: it takes root.
pub fn enter_private_mounts() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .context("make a mount namespace (needs root)")?;
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .context("keep mounts to this build")
}

/// Unmounts and removes a work directory.
pub(super) fn clear(path: &Path) {
    // Whatever is mounted below goes first: nothing outside may be removed through a mount.
    let below = |target: &str| Path::new(target).starts_with(path);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for target in
        mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)).filter(|target| below(target))
    {
        let _ = nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
    }
    let still = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if !still.lines().filter_map(|line| line.split(' ').nth(1)).any(below) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Where work directories are.
pub(super) fn root(paths: &Paths) -> PathBuf {
    paths.store.join("build").join("work")
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
