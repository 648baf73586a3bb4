//! The procfs that is trusted: the host's, opened before anything of the container is looked at.
//!
//! Every write to `/proc` on a container's behalf goes through it: inside the container `/proc` may be a symbolic
//! link, a volume or have files mounted over it, so that a label or a kernel parameter would land elsewhere
//! (CVE-2019-16884, CVE-2023-28642, CVE-2025-52881).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use sys::mount::{Filesystem, attr};

/// The host's `/proc`, or one that nobody else can reach.
#[derive(Debug)]
pub struct Procfs {
    fd: OwnedFd,
}

impl Procfs {
    /// Opens it.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn open() -> Result<Self> {
        let fd = open("/proc", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .context("open /proc")?;
        let is_proc = fstatfs(&fd).context("look at /proc")?.filesystem_type() == PROC_SUPER_MAGIC;
        ensure!(is_proc, "/proc is not a proc file system");
        Ok(Self { fd })
    }

    /// A procfs of this process's own PID namespace, mounted nowhere: for a process that must have nothing of the host
    /// open, and cannot trust what the container has at `/proc`.
    ///
    /// # Errors
    /// Without the right to mount one.
    pub fn of_own_namespace() -> Result<Self> {
        let context = "mount a proc file system of our own";
        let fd = Filesystem::open("proc")
            .and_then(|proc| proc.mount(attr::NODEV | attr::NOEXEC))
            .context(context)?;
        Ok(Self { fd })
    }

    /// Opens a file below it, on this very mount.
    ///
    /// # Errors
    /// Whatever `openat2(2)` says, naming the path.
    pub fn file(&self, path: &str, flags: OFlag) -> Result<File> {
        // `self` is a link that must be followed, but not one of the magic ones.
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let fd = openat2(&self.fd, path, how).with_context(|| format!("open /proc/{path}"))?;
        Ok(File::from(fd))
    }

    /// Writes `value` to a file below it in one call.
    ///
    /// # Errors
    /// Naming the file and the value.
    pub fn write(&self, path: &str, value: &str) -> Result<()> {
        let mut file = self.file(path, OFlag::O_WRONLY)?;
        file.write_all(value.as_bytes()).with_context(|| format!("write {value:?} to /proc/{path}"))
    }

    /// Reads a whole file below it.
    ///
    /// # Errors
    /// Naming the file.
    pub fn read(&self, path: &str) -> Result<String> {
        let mut text = String::new();
        let mut file = self.file(path, OFlag::O_RDONLY)?;
        file.read_to_string(&mut text).with_context(|| format!("read /proc/{path}"))?;
        Ok(text)
    }
}
