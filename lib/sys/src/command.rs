//! What a `std::process::Command` must not inherit from us.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Lets the program start with no signal blocked. The standard library passes our mask on, and who waits for signals
/// on a descriptor blocks them: a payload that inherits that is deaf to SIGTERM.
pub fn with_clean_signals(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only sigprocmask(2) is called, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(Into::into)
        })
    }
}

/// Gives the program these descriptors (eight at most) as 3, 4, 5 and so on. The caller has descriptors of its own under
/// those numbers: the standard library's pipe to the child must not be one of them.
pub fn with_descriptors(command: &mut Command, descriptors: Vec<OwnedFd>) -> &mut Command {
    const MOST: usize = 8;
    // SAFETY: between fork and exec only fcntl(2) and dup2(2) are called, which are async-signal-safe; nothing allocates.
    unsafe {
        command.pre_exec(move || {
            let mut copies = [-1; MOST];
            for (copy, fd) in copies.iter_mut().zip(&descriptors) {
                // Above every number that is given away, so that none is overwritten before it is placed.
                *copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16);
            }
            for (number, copy) in (3..).zip(copies).take(descriptors.len()) {
                if copy < 0 || libc::dup2(copy, number) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        })
    }
}
