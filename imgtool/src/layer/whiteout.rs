//! Deletions in layers: OCI's names (`.wh.x`, `.wh..wh..opq`) and overlayfs' marks (a 0:0 device, an attribute).

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::{Mode, SFlag, mknodat};

/// Prefix of a deletion in a layer archive.
pub const PREFIX: &[u8] = b".wh.";
/// Name that hides everything lower layers have in its directory.
pub const OPAQUE: &[u8] = b".wh..wh..opq";

/// What a `.wh.` name says.
#[derive(Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// The name is deleted.
    Deleted(&'a OsStr),
    /// The directory hides the lower ones.
    Opaque,
    /// Bookkeeping of aufs (`.wh..wh.plnk`, …) that means nothing here.
    Ignored,
}

/// Reads a file name; `None` where it is an ordinary one.
///
/// # Errors
/// A deletion of `.`, `..` or nothing.
pub fn parse(name: &OsStr) -> Result<Option<Mark<'_>>> {
    let Some(rest) = name.as_bytes().strip_prefix(PREFIX) else { return Ok(None) };
    if name.as_bytes() == OPAQUE {
        return Ok(Some(Mark::Opaque));
    }
    if rest.starts_with(PREFIX) {
        return Ok(Some(Mark::Ignored));
    }
    ensure!(!matches!(rest, b"" | b"." | b".."), "a deletion of \"{}\"", rest.escape_ascii());
    Ok(Some(Mark::Deleted(OsStr::from_bytes(rest))))
}

/// Whether only overlayfs itself may set this attribute.
pub fn is_overlay_attribute(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Makes a directory hide the lower ones.
///
/// # Errors
/// The file system has no extended attributes.
pub fn set_opaque(directory: impl AsFd) -> Result<()> {
    sys::xattr::set(directory, opaque_attribute(), b"y").context("mark a directory opaque")
}

/// Whether a directory hides the lower ones.
///
/// # Errors
/// Whatever the file system says.
pub fn is_opaque(directory: impl AsFd) -> Result<bool> {
    Ok(sys::xattr::get(directory, opaque_attribute())?.is_some_and(|value| value == b"y"))
}

/// Marks a name as deleted.
///
/// # Errors
/// The file system cannot hold devices.
pub fn make(directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    mknodat(directory, name, SFlag::S_IFCHR, Mode::empty(), 0)
        .with_context(|| format!("mark {} deleted", name.display()))
}

/// Trusted attributes need the machine's own root; without it overlayfs is mounted with `userxattr`.
fn opaque_attribute() -> &'static OsStr {
    OsStr::new(if crate::rootless::is_real_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let parse = |name| parse(OsStr::new(name));
        assert_eq!(parse("a").unwrap(), None);
        assert_eq!(parse(".wh.a").unwrap(), Some(Mark::Deleted(OsStr::new("a"))));
        assert_eq!(parse(".wh..wh..opq").unwrap(), Some(Mark::Opaque));
        assert_eq!(parse(".wh..wh.plnk").unwrap(), Some(Mark::Ignored));
        for bad in [".wh.", ".wh..", ".wh..."] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
