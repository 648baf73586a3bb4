//! What of an unpacked archive may be opened by its path: an archive is a stranger's, and a link in it could lead anywhere.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::path::Root;

use super::MEMORY;

/// A file of the archive that is unpacked in `dir`, for reading; `None` where it is missing.
///
/// # Errors
/// A fault of kind `Usage` where it is a link, a directory or a device.
pub fn open(dir: &Path, name: &Path) -> Result<Option<File>> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match Root::open(dir)?.open_in(name, flags, Mode::empty()) {
        Ok(fd) if fs::File::from(fd.try_clone()?).metadata()?.is_file() => Ok(Some(fd.into())),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) if err.raw_os_error() != Some(libc::ELOOP) => {
            Err(err).with_context(|| name.display().to_string())
        }
        _ => fault!(Usage, "{} in the archive is no file", name.display()),
    }
}

/// The path of a file of the archive, to be moved elsewhere.
///
/// # Errors
/// As [`open`].
pub fn path(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    Ok(open(dir, Path::new(name))?.map(|_| dir.join(name)))
}

/// CRIU's images: one directory with files, and a link to those that they build on. CRIU opens them, and its own log there,
/// by their names.
///
/// # Errors
/// A fault of kind `Usage` where there is anything else.
pub fn check_images(dir: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(dir) else { return Ok(()) };
    let name = dir.file_name().unwrap_or_default().display();
    if !found.is_dir() {
        fault!(Usage, "{name} in the archive is no directory");
    }
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry.with_context(|| format!("read {}", dir.display()))?;
        let parent = || {
            entry.file_name() == "parent"
                && fs::read_link(entry.path()).is_ok_and(|to| to == Path::new("..").join(MEMORY))
        };
        if !entry.file_type()?.is_file() && !parent() {
            fault!(Usage, "{name}/{} in the archive is no file", entry.file_name().display());
        }
    }
    Ok(())
}
