//! Joining and leaving namespaces: `setns(2)`, `unshare(2)`; whether we are in a user namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::wait::{Id, WaitPidFlag, waitid};

use crate::clone::{CloneOptions, Cloned, clone, exit_now};

/// Joins the namespace of a `/proc/PID/ns/…` descriptor, or with a pidfd those namespaces of a process that `flags`
/// (`CLONE_NEW…`) names.
///
/// # Errors
/// `EPERM` without the capability, `EINVAL` for the wrong kind of namespace.
pub fn join(fd: BorrowedFd<'_>, flags: i32) -> io::Result<()> {
    // SAFETY: passes integers only; the caller is single-threaded where the kernel asks for it, else it says EINVAL.
    if unsafe { libc::setns(fd.as_raw_fd(), flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves this process into new namespaces (`CLONE_NEW…`).
///
/// # Errors
/// `EPERM` without the capability, `ENOSPC` over the limit of namespaces.
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: passes integers only.
    if unsafe { libc::unshare(flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether this process is in a user namespace other than the machine's first, which alone maps every id to itself. Its
/// root has no rights over what belongs to the machine.
#[must_use]
pub fn in_user_namespace() -> bool {
    let Ok(map) = std::fs::read_to_string("/proc/self/uid_map") else { return false };
    !map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// New namespaces (`CLONE_NEW…`) with nobody in them but a process that sleeps while `look` is at work, to which its pid is
/// told; made by that process once it has joined the user namespace `owner`, where one is given.
///
/// # Errors
/// Those of `look`; what `clone3(2)`, `setns(2)` and `unshare(2)` say.
pub fn held<T, E: From<io::Error>>(
    flags: i32,
    owner: Option<BorrowedFd<'_>>,
    look: impl FnOnce(i32) -> Result<T, E>,
) -> Result<T, E> {
    let (mut ready, tell) = io::pipe()?;
    let (reader, writer) = io::pipe()?;
    let namespaces = if owner.is_some() { 0 } else { flags };
    match clone(CloneOptions { namespaces, ..CloneOptions::default() })? {
        Cloned::Child => {
            drop((writer, ready));
            let made = owner.map_or(Ok(()), |fd| join(fd, libc::CLONE_NEWUSER).and_then(|()| unshare(flags)));
            let code = made.err().map_or(0, |err| err.raw_os_error().unwrap_or(libc::EIO));
            let _ = io::Write::write_all(&mut &tell, &code.to_ne_bytes());
            // Lives until the parent, who holds the other end, lets go of it or dies.
            let _ = io::Read::read(&mut &reader, &mut [0]);
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd } => {
            drop((reader, tell));
            let mut code = [0; 4];
            let done = match io::Read::read_exact(&mut ready, &mut code).map(|()| i32::from_ne_bytes(code)) {
                Ok(0) => look(pid),
                Ok(code) => Err(io::Error::from_raw_os_error(code).into()),
                Err(err) => Err(err.into()),
            };
            drop(writer);
            let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED);
            done
        }
    }
}

/// A user namespace with nobody in it, for mounts whose ids are shifted by its maps. `write_maps` is told the process whose
/// maps they are; that one ends before this returns.
///
/// # Errors
/// Those of `write_maps`; what `clone3(2)` says.
pub fn user_alone<E: From<io::Error>>(write_maps: impl FnOnce(i32) -> Result<(), E>) -> Result<OwnedFd, E> {
    held(libc::CLONE_NEWUSER, None, |pid| {
        write_maps(pid)?;
        Ok(File::open(format!("/proc/{pid}/ns/user"))?.into())
    })
}
