//! The options of a request (`criu_opts`) that do not depend on the container.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;

use super::message::Message;
use super::service::Service;
use crate::cli::checkpoint::{CgroupMode, Images, NetworkLock, Shared};
use crate::container::state::State;

/// Field numbers of `criu_opts`.
pub mod field {
    #![allow(missing_docs, reason = "CRIU's own names")]
    pub const IMAGES_DIR_FD: u32 = 1;
    pub const PID: u32 = 2;
    pub const LEAVE_RUNNING: u32 = 3;
    pub const EXT_UNIX_SK: u32 = 4;
    pub const TCP_ESTABLISHED: u32 = 5;
    pub const EVASIVE_DEVICES: u32 = 6;
    pub const SHELL_JOB: u32 = 7;
    pub const FILE_LOCKS: u32 = 8;
    pub const LOG_LEVEL: u32 = 9;
    pub const LOG_FILE: u32 = 10;
    pub const PAGE_SERVER: u32 = 11;
    pub const NOTIFY_SCRIPTS: u32 = 12;
    pub const ROOT: u32 = 13;
    pub const PARENT_IMG: u32 = 14;
    pub const TRACK_MEM: u32 = 15;
    pub const AUTO_DEDUP: u32 = 16;
    pub const WORK_DIR_FD: u32 = 17;
    pub const LINK_REMAP: u32 = 18;
    pub const EXT_MNT: u32 = 23;
    pub const MANAGE_CGROUPS: u32 = 24;
    pub const CG_ROOT: u32 = 25;
    pub const RST_SIBLING: u32 = 26;
    pub const INHERIT_FD: u32 = 27;
    pub const MANAGE_CGROUPS_MODE: u32 = 34;
    pub const EXTERNAL: u32 = 37;
    pub const EMPTY_NS: u32 = 38;
    pub const JOIN_NS: u32 = 39;
    pub const FREEZE_CGROUP: u32 = 44;
    pub const TCP_SKIP_IN_FLIGHT: u32 = 46;
    pub const LAZY_PAGES: u32 = 48;
    pub const ORPHAN_PTS_MASTER: u32 = 50;
    pub const CONFIG_FILE: u32 = 51;
    pub const TCP_CLOSE: u32 = 52;
    pub const LSM_PROFILE: u32 = 53;
    pub const LSM_MOUNT_CONTEXT: u32 = 63;
    pub const NETWORK_LOCK: u32 = 64;
}

/// A file of CRIU's settings for everybody; settings in it win over the command line's.
const CONFIG_FILE: &str = "/etc/criu/runc.conf";
/// Names every step, which is what a report of a failure needs.
const LOG_LEVEL: i64 = 4;

/// Options being collected, and the descriptors that they name.
#[derive(Debug)]
pub struct Options {
    /// The message.
    pub message: Message,
    /// Where the images are.
    pub images: PathBuf,
    /// Where CRIU writes its log.
    pub log: PathBuf,
    held: Vec<OwnedFd>,
    directories: Vec<(PathBuf, i32)>,
}

impl Options {
    /// What both directions share. The directories are made where they are missing.
    ///
    /// # Errors
    /// A directory that cannot be made, a value that makes no sense.
    pub fn new(images: &Images, shared: &Shared, log: &str, state: &State) -> Result<Self> {
        let directory = match &images.image_path {
            Some(path) => path.as_path(),
            None => Path::new("checkpoint"),
        };
        let absolute =
            |path: &Path| std::path::absolute(path).with_context(|| format!("find {}", path.display()));
        let directory = absolute(directory)?;
        let work = images.work_path.as_deref().map(absolute).transpose()?;
        let work = work.as_ref();
        let log_path = work.unwrap_or(&directory).join(log);
        let mut options = Self {
            message: Message::default(),
            images: directory,
            log: log_path,
            held: Vec::new(),
            directories: Vec::new(),
        };
        let images_fd = options.directory(&options.images.clone())?;
        options.message.number(field::IMAGES_DIR_FD, images_fd.into());
        if let Some(work) = work {
            let work_fd = options.directory(work)?;
            options.message.number(field::WORK_DIR_FD, work_fd.into());
        }
        options
            .message
            .number(field::LOG_LEVEL, LOG_LEVEL)
            .text(field::LOG_FILE, log)
            .flag(field::NOTIFY_SCRIPTS, true)
            .flag(field::MANAGE_CGROUPS, true)
            .number(field::MANAGE_CGROUPS_MODE, cgroup_mode(shared.manage_cgroups_mode))
            .flag(field::SHELL_JOB, shared.shell_job)
            .flag(field::TCP_ESTABLISHED, shared.tcp_established)
            .flag(field::EXT_UNIX_SK, shared.ext_unix_sk)
            .flag(field::FILE_LOCKS, shared.file_locks)
            .flag(field::AUTO_DEDUP, shared.auto_dedup)
            .flag(field::LAZY_PAGES, shared.lazy_pages)
            .flag(field::ORPHAN_PTS_MASTER, true)
            .number(field::EMPTY_NS, empty_namespaces(&shared.empty_ns)?);
        if let Some(lock) = shared.network_lock {
            options.message.number(field::NETWORK_LOCK, network_lock(lock));
        }
        match state.annotations.get("org.criu.config").map(String::as_str) {
            None => {
                options.message.text(field::CONFIG_FILE, CONFIG_FILE);
            }
            // Said to be none at all.
            Some("") => {}
            Some(path) => {
                options.message.text(field::CONFIG_FILE, path);
            }
        }
        Ok(options)
    }

    /// Keeps a descriptor open, also for CRIU; returns its number.
    ///
    /// # Errors
    /// None in practice.
    pub fn hold(&mut self, fd: OwnedFd) -> Result<i32> {
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).context("hand a descriptor to criu")?;
        let number = fd.as_raw_fd();
        self.held.push(fd);
        Ok(number)
    }

    fn directory(&mut self, path: &Path) -> Result<i32> {
        match DirBuilder::new().recursive(true).mode(0o700).create(path) {
            Err(err) if err.kind() != ErrorKind::AlreadyExists => {
                return Err(err).with_context(|| format!("make {}", path.display()));
            }
            _ => {}
        }
        let directory = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let number = self.hold(directory.into())?;
        self.directories.push((path.to_owned(), number));
        Ok(number)
    }

    /// Opens the directories again as a CRIU in another mount namespace sees them: it reaches them through our
    /// descriptors, mounts in them, and may do so only in its own namespace.
    ///
    /// # Errors
    /// One is gone.
    pub fn reopen(&self, service: &Service) -> Result<()> {
        for (path, number) in &self.directories {
            // A link in it would lead back into our mounts, where CRIU could not mount anything below.
            let real = fs::canonicalize(path).with_context(|| format!("open {}", path.display()))?;
            let path = service.path(&real);
            let directory = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            sys::clone::place_fd(directory.as_fd(), *number).context("hand a directory to criu")?;
        }
        Ok(())
    }
}

/// `--parent-path`, which CRIU keeps as a link in the images: relative, and there.
///
/// # Errors
/// It is neither.
pub fn check_parent(images: &Path, parent: &Path) -> Result<()> {
    if parent.is_absolute() {
        fault!(Usage, "--parent-path must be relative to the images");
    }
    let real = images.join(parent);
    match fs::metadata(&real) {
        Ok(info) if info.is_dir() => Ok(()),
        Ok(_) => fault!(Usage, "invalid --parent-path: {}: not a directory", real.display()),
        Err(err) => fault!(Usage, "invalid --parent-path: {}: {err}", real.display()),
    }
}

/// `ADDRESS:PORT`, also `[ADDRESS]:PORT`.
///
/// # Errors
/// A usage fault.
pub fn page_server(text: &str) -> Result<(String, u16)> {
    let parts = text.rsplit_once(':').map(|(address, port)| {
        (address.trim_start_matches('[').trim_end_matches(']'), port.parse::<u16>().unwrap_or(0))
    });
    match parts {
        Some((address, port)) if !address.is_empty() && port != 0 => Ok((address.to_owned(), port)),
        _ => fault!(Usage, "--page-server {text:?}: not ADDRESS:PORT"),
    }
}

/// A network's devices and addresses are its maker's, who sets them up again.
fn empty_namespaces(names: &[String]) -> Result<i64> {
    for name in names {
        if name != "network" {
            fault!(Usage, "--empty-ns: namespace {name:?} is not supported");
        }
    }
    Ok(libc::CLONE_NEWNET.into())
}

const fn cgroup_mode(mode: Option<CgroupMode>) -> i64 {
    match mode {
        Some(CgroupMode::Ignore) => 0,
        Some(CgroupMode::Soft) => 3,
        Some(CgroupMode::Full) => 4,
        Some(CgroupMode::Strict) => 5,
        None => 6,
    }
}

const fn network_lock(lock: NetworkLock) -> i64 {
    match lock {
        NetworkLock::Iptables => 1,
        NetworkLock::Nftables => 2,
        NetworkLock::Skip => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_servers() {
        assert_eq!(page_server("10.0.0.1:27").unwrap(), ("10.0.0.1".to_owned(), 27));
        assert_eq!(page_server("[::1]:27").unwrap(), ("::1".to_owned(), 27));
        for wrong in ["", "a", "a:", ":1", "a:0", "a:70000", "a:x"] {
            assert!(page_server(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_networks_are_left_empty() {
        assert_eq!(empty_namespaces(&[]).unwrap(), i64::from(libc::CLONE_NEWNET));
        assert!(empty_namespaces(&["pid".to_owned()]).is_err());
    }

    #[test]
    fn parents_are_relative_directories() {
        let images = tempfile::tempdir().unwrap();
        fs::create_dir(images.path().join("pre")).unwrap();
        fs::write(images.path().join("file"), "").unwrap();
        check_parent(images.path(), Path::new("pre")).unwrap();
        for wrong in ["/pre", "file", "nosuch"] {
            assert!(check_parent(images.path(), Path::new(wrong)).is_err(), "{wrong}");
        }
    }
}
