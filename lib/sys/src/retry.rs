//! Calls that a stop interrupts.

use std::io::{ErrorKind, Result};

/// Calls again as long as `call` was interrupted.
///
/// Some calls end with `EINTR` though no handler ran: those on a socket that has a time limit, when the process is stopped
/// and goes on, or is frozen by its cgroup, or the machine is suspended (signal(7), "Interruption of system calls and
/// library functions by stop signals"). The time limit begins again.
///
/// # Errors
/// Every other one of `call`.
pub fn uninterrupted<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
