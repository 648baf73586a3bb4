//! What makes the kernel wait for an RCU grace period (20 ms and more) is done behind the answer: by a child that has
//! inherited the lock, so that the next command finds it complete.

use std::fs::OpenOptions;
use std::os::fd::AsFd as _;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use sys::clone::{CloneOptions, Cloned, clone, exit_now};

/// A link is out of sight at once, long before the kernel has let go of it; unless the machine is very busy.
const GLANCE: Duration = Duration::from_micros(100);

/// Starts `work` in a child and leaves it alone; where none can be made, does it here. A failure there is found by the
/// next command.
///
/// # Errors
/// Those of `work`, where it was done here.
pub fn leave(work: impl FnOnce() -> Result<()>) -> Result<()> {
    match clone(CloneOptions::default()) {
        Ok(Cloned::Parent { .. }) => Ok(()),
        Ok(Cloned::Child) => child(work),
        Err(_) => work(),
    }
}

/// Does `work`, which takes something out of everybody's sight before it waits: returns when `is_seen` sees it no more.
/// Both need sockets of their own.
///
/// # Errors
/// Those of `work` and of `is_seen`.
pub fn vanish(work: impl Fn() -> Result<()>, is_seen: impl Fn() -> Result<bool>) -> Result<()> {
    let process = match clone(CloneOptions::default()) {
        Ok(Cloned::Parent { pidfd, .. }) => pidfd,
        Ok(Cloned::Child) => child(work),
        Err(_) => return work(),
    };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    while is_seen()? {
        match waitid(Id::PIDFd(process.as_fd()), flags) {
            Ok(WaitStatus::StillAlive) => sleep(GLANCE),
            // Ended, and still there: here it will say why.
            _ => return if is_seen()? { work() } else { Ok(()) },
        }
    }
    Ok(())
}

fn child(work: impl FnOnce() -> Result<()>) -> ! {
    // Whoever reads our answer from a pipe must see its end now.
    if let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        for number in 0..3 {
            let _ = sys::clone::place_fd(null.as_fd(), number);
        }
    }
    exit_now(i32::from(work().is_err()));
}
