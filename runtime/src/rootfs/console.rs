//! The container's terminal: a pty of the container's own devpts, bound to `/dev/console`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Gid, Uid, fchown};
use sys::path::Root;

use super::devices;
use crate::spec::process::ConsoleSize;

/// `DEVPTS_SUPER_MAGIC` (statfs(2)).
const DEVPTS: FsType = FsType(0x1cd1);
/// The inode of `ptmx` in every devpts.
const PTMX_INODE: u64 = 2;

/// Both ends of a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// For whoever shows it.
    pub master: OwnedFd,
    /// For the program.
    pub slave: OwnedFd,
}

/// Opens a new terminal of the container; the slave end belongs to `uid`. The multiplexer is checked to be a devpts'
/// own, and the slave is opened through it, so that no file of the container's choice can take the place of either
/// (CVE-2025-52565).
///
/// # Errors
/// There is no devpts at `/dev/pts`.
pub fn open(root: &Root, uid: u32, size: Option<ConsoleSize>) -> Result<Terminal> {
    let path = Path::new("/dev/pts/ptmx");
    let master = root
        .open_in(path, OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty())
        .context("open a terminal: /dev/pts/ptmx of the container")?;
    let genuine = fstatfs(&master).is_ok_and(|info| info.filesystem_type() == DEVPTS)
        && fstat(&master).is_ok_and(|info| info.st_ino == PTMX_INODE);
    ensure!(genuine, "open a terminal: /dev/pts of the container is not a devpts");
    let slave = sys::pty::open_peer(master.as_fd()).context("open a terminal")?;
    if uid != 0 {
        fchown(&slave, Some(Uid::from_raw(uid)), None::<Gid>).context("give the terminal to the user")?;
    }
    if let Some(size) = size {
        sys::pty::set_size(slave.as_fd(), (size.height, size.width)).context("set the terminal's size")?;
    }
    Ok(Terminal { master, slave })
}

/// Mounts the slave over `/dev/console`.
///
/// # Errors
/// `/dev` is no directory, or the place is a link.
pub fn bind(root: &Root, slave: BorrowedFd<'_>) -> Result<()> {
    let place = || {
        let dev = devices::open_dev(root)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        // What is there already, also on a read-only /dev, does as well; it is not opened.
        let _ = openat(&dev, "console", flags, Mode::from_bits_truncate(0o620));
        let place =
            openat(&dev, "console", OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
        let is_link = sys::path::file_type(fstat(&place)?.st_mode) == nix::sys::stat::SFlag::S_IFLNK;
        ensure!(!is_link, "it is a symbolic link");
        Ok(place)
    };
    let place = place().context("make /dev/console")?;
    let node = sys::mount::copy_tree(slave, Path::new(""), false, false).context("mount /dev/console")?;
    sys::mount::attach(node.as_fd(), place.as_fd()).context("mount /dev/console")
}

/// Makes a terminal the controlling one of this (new) session and its standard input, output and errors.
///
/// # Errors
/// Whatever the kernel says.
pub fn take(slave: BorrowedFd<'_>) -> Result<()> {
    sys::pty::make_controlling(slave).context("make the terminal the controlling one")?;
    for number in 0..3 {
        sys::clone::place_fd(slave, number).context("make the terminal the standard input and output")?;
    }
    Ok(())
}
