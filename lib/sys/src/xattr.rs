//! Extended attributes of what a descriptor refers to: `setxattr(2)` and relatives by `/proc/self/fd`.
//!
//! The detour by `/proc/self/fd/N` works for every descriptor, `O_PATH` ones of symbolic links and devices
//! included, on every kernel, and never resolves a name that somebody else could swap.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

/// Sets the attribute `name` (`user.x`, `trusted.overlay.opaque`) to `value`.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has none, `EPERM` for a name that this process may not set.
pub fn set(fd: impl AsFd, name: &OsStr, value: &[u8]) -> io::Result<()> {
    let (path, name) = (proc_path(&fd), c_string(name)?);
    // SAFETY: both strings are NUL-terminated and live across the call; `value` is read for its own length.
    let rc = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The value of `name`; `None` where it is not set or the file system has no attributes.
///
/// # Errors
/// Whatever `getxattr(2)` says beyond that.
pub fn get(fd: impl AsFd, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
    let (path, name) = (proc_path(&fd), c_string(name)?);
    let read = |buffer: &mut [u8]| {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    };
    match sized(read) {
        Ok(value) => Ok(Some(value)),
        Err(err) if matches!(err.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
        Err(err) => Err(err),
    }
}

/// Removes `name`; it being absent is fine.
///
/// # Errors
/// Whatever `removexattr(2)` says beyond that.
pub fn remove(fd: impl AsFd, name: &OsStr) -> io::Result<()> {
    let (path, name) = (proc_path(&fd), c_string(name)?);
    // SAFETY: both strings are NUL-terminated and live across the call.
    if unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        err if matches!(err.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(()),
        err => Err(err),
    }
}

/// The names of all attributes; none where the file system has no attributes.
///
/// # Errors
/// Whatever `listxattr(2)` says beyond that.
pub fn list(fd: impl AsFd) -> io::Result<Vec<OsString>> {
    let path = proc_path(&fd);
    let read = |buffer: &mut [u8]| {
        // SAFETY: the kernel writes at most `buffer.len()` bytes into the buffer.
        unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    };
    let names = match sized(read) {
        Ok(names) => names,
        Err(err) if matches!(err.raw_os_error(), Some(libc::EOPNOTSUPP)) => Vec::new(),
        Err(err) => return Err(err),
    };
    let parts = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(parts.map(|name| OsString::from_vec(name.to_vec())).collect())
}

/// Nearly every value fits the first buffer, so one call does; the size is asked only after `ERANGE`.
fn sized(read: impl Fn(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        if let Ok(len) = usize::try_from(read(&mut buffer)) {
            buffer.truncate(len);
            return Ok(buffer);
        }
        let err = io::Error::last_os_error();
        // XATTR_SIZE_MAX and XATTR_LIST_MAX are both 65536.
        if err.raw_os_error() != Some(libc::ERANGE) || buffer.len() > 65536 {
            return Err(err);
        }
        buffer = vec![0; 65537];
    }
}

fn proc_path(fd: &impl AsFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
        .unwrap_or_else(|_| CStr::to_owned(c"/dev/null"))
}

fn c_string(name: &OsStr) -> io::Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_get_list_remove() {
        // On the file system of the sources: /tmp may be a tmpfs without user attributes.
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let name = OsStr::new("trusted.bulkhead");
        assert_eq!(get(&file, name).unwrap(), None);
        match set(&file, name, &[7; 3000]) {
            Err(err) if err.raw_os_error() == Some(libc::EPERM) => return,
            other => other.unwrap(),
        }
        assert_eq!(get(&file, name).unwrap().unwrap().len(), 3000);
        assert!(list(&file).unwrap().iter().any(|found| found == name));
        remove(&file, name).unwrap();
        remove(&file, name).unwrap();
        assert_eq!(get(&file, name).unwrap(), None);
    }
}
