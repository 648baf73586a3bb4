//! What is in a directory: `getdents64(2)` as it is, without the heap of the C library, which readdir(3) sets up.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

/// Where `struct linux_dirent64` has its own length, 16 bits.
const LENGTH: usize = 16;
/// Where it has its name, which ends with a zero.
const NAME: usize = 19;

/// The names in the directory `dir`, in no order, without `.` and `..`.
///
/// # Errors
/// `ENOTDIR`, `EBADF` for one opened by `O_PATH`, and those of the file system.
pub fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    // Somebody may have read it before.
    // SAFETY: passes integers only.
    if unsafe { libc::lseek(dir.as_raw_fd(), 0, libc::SEEK_SET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut names = Vec::new();
    let mut buffer = [0_u8; 2048];
    loop {
        // SAFETY: the kernel writes at most as many bytes as it is told are there.
        let read = unsafe {
            libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
        };
        let mut entries = match usize::try_from(read) {
            Ok(0) => return Ok(names),
            Ok(read) => &buffer[..read],
            Err(_) => return Err(io::Error::last_os_error()),
        };
        while let (Some(length), Some(name)) = (entries.get(LENGTH..LENGTH + 2), entries.get(NAME..)) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let name = CStr::from_bytes_until_nul(name).map_err(io::Error::other)?.to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(OsStr::from_bytes(name).to_owned());
            }
            entries = entries.get(length..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::os::fd::AsFd as _;

    #[test]
    fn all_names_each_time() {
        let directory = tempfile::tempdir().expect("make a directory");
        let expected: BTreeSet<OsString> =
            (0..500).map(|number| format!("{number}{}", "x".repeat(number % 250)).into()).collect();
        for name in &expected {
            fs::write(directory.path().join(name), "").expect("make a file");
        }
        let opened = File::open(directory.path()).expect("open it");
        for _ in 0..2 {
            let found = names(opened.as_fd()).expect("read it");
            assert_eq!(found.len(), 500);
            assert_eq!(BTreeSet::from_iter(found), expected);
        }
        let empty = tempfile::tempdir().expect("make a directory");
        let opened = File::open(empty.path()).expect("open it");
        assert!(names(opened.as_fd()).expect("read it").is_empty());
        let file = File::open("/proc/self/exe").expect("open a file");
        assert_eq!(names(file.as_fd()).expect_err("no directory").kind(), io::ErrorKind::NotADirectory);
    }
}
