//! What a `std::process::Command` must not inherit from us.

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
