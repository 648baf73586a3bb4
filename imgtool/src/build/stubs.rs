//! Mount points that a RUN step needs and the image does not have: made before, taken away after, without a trace in
//! the layer unless the step used them for something of its own.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};
use sys::path::{Root, file_type};

use crate::layer::tree;

/// Stubs to be removed.
#[derive(Debug, Default)]
pub struct Stubs {
    /// Parent directory, name, whether it is a directory; outermost first.
    made: Vec<(OwnedFd, OsString, bool)>,
}

impl Stubs {
    /// Makes sure that `target` (absolute) exists, as a directory or as a file.
    ///
    /// # Errors
    /// Something else is in the way.
    pub fn make(&mut self, root: &Root, target: &Path, directory: bool) -> Result<()> {
        if root.open_in(target, OFlag::O_PATH, Mode::empty()).is_ok() {
            return Ok(());
        }
        let parts: Vec<_> = target.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let mut at = root.open_in(Path::new("/"), flags, Mode::empty())?;
        let mut walked = std::path::PathBuf::from("/");
        for (index, part) in parts.iter().enumerate() {
            walked.push(part);
            let last = index + 1 == parts.len();
            if let Ok(fd) = root.open_in(&walked, flags, Mode::empty()) {
                at = fd;
                continue;
            }
            let name = part.as_os_str();
            // A link to nowhere: the runtime resolves it, inside the root, better than a stub could.
            if tree::stat_in(&at, name)?.is_some() {
                return Ok(());
            }
            let before = fstat(&at)?;
            if last && !directory {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
                drop(openat(&at, name, flags, Mode::from_bits_truncate(0o644))?);
            } else {
                mkdirat(&at, name, Mode::from_bits_truncate(0o755))?;
            }
            restore_time(&at, &before)?;
            self.made.push((at.try_clone()?, name.to_owned(), !last || directory));
            if !last || directory {
                at = root
                    .open_in(&walked, flags, Mode::empty())
                    .with_context(|| format!("open {}", walked.display()))?;
            }
        }
        Ok(())
    }

    /// Removes those that are still empty.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(self) -> Result<()> {
        for (parent, name, directory) in self.made.into_iter().rev() {
            let before = fstat(&parent)?;
            let Some(stat) = tree::stat_in(&parent, &name)? else { continue };
            let is_directory = file_type(stat.st_mode) == SFlag::S_IFDIR;
            if is_directory != directory || (!directory && stat.st_size != 0) {
                continue;
            }
            let how = if directory { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
            match unlinkat(parent.as_fd(), name.as_os_str(), how) {
                Ok(()) => restore_time(&parent, &before)?,
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
                Err(err) => return Err(err).with_context(|| format!("remove {}", name.display())),
            }
        }
        Ok(())
    }
}

fn restore_time(directory: &OwnedFd, stat: &nix::sys::stat::FileStat) -> Result<()> {
    let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    Ok(futimens(directory, &TimeSpec::UTIME_OMIT, &time)?)
}
