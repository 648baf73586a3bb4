//! A cgroup directory held open, and its files.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{read, write};

/// One open cgroup directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    /// As in [`super::Member`].
    pub controllers: String,
    /// Absolute, for messages.
    pub path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a directory by its path.
    pub fn open(controllers: &str, path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd =
            open(path, flags, Mode::empty()).with_context(|| format!("open cgroup {}", path.display()))?;
        Ok(Self { fd, controllers: controllers.to_owned(), path: path.to_owned() })
    }

    /// Whether it is in the unified hierarchy.
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Whether its hierarchy has a v1 controller.
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|one| one == controller)
    }

    /// Opens one of its files for writing.
    pub fn open_to_write(&self, file: &str) -> Result<OwnedFd> {
        self.open_file(file, OFlag::O_WRONLY).with_context(|| format!("open {}", self.name_of(file)))
    }

    /// Writes a file in one piece, as the kernel wants it.
    pub fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let fd = self.open_file(file, OFlag::O_WRONLY)?;
        write_whole(&fd, value)
    }

    /// Reads a whole file.
    pub fn read(&self, file: &str) -> io::Result<String> {
        let fd = self.open_file(file, OFlag::O_RDONLY)?;
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match read(&fd, &mut buffer)? {
                0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The full name of one of its files, for messages.
    pub fn name_of(&self, file: &str) -> String {
        self.path.join(file).display().to_string()
    }

    fn open_file(&self, file: &str, flags: OFlag) -> io::Result<OwnedFd> {
        Ok(openat(&self.fd, file, flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?)
    }
}

/// One `write(2)`; a value taken in part is an error.
pub fn write_whole(fd: &OwnedFd, value: &str) -> io::Result<()> {
    loop {
        match write(fd, value.as_bytes()) {
            Err(Errno::EINTR) => {}
            Ok(count) if count == value.len() => return Ok(()),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(err) => return Err(err.into()),
        }
    }
}
