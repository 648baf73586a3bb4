//! A stopped container starts again, and waiting for its last owner.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::Status;
use contracts::process::Process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::start::{Start, start};
use super::{Store, status};

/// Starts a stopped container: `start`, `restart`, `boot`.
pub fn again(store: &Store, id: &str, how: Start<'_>) -> Result<bool> {
    let mut lock = store.lock(id)?;
    let record = loop {
        let record = store.load(id)?;
        let status = status::read_locked(store, id, &lock)?;
        match status.owner {
            Some(_) if status.state.is_live() => return Ok(false),
            // Its last supervisor is still clearing away; it may need the lock for that.
            Some(owner) => {
                drop(lock);
                wait_for(store, id, owner)?;
                lock = store.lock(id)?;
            }
            None => break record,
        }
    };
    start(store, &record, &lock, how)?;
    Ok(true)
}

/// Waits until the container's owner is done with it: it has cleared away, has ended, or only still sends its last log
/// lines; or it was about to start the payload for a command that was killed, and now has.
pub fn wait_for(store: &Store, id: &str, owner: Process) -> Result<()> {
    wait_while(store, id, owner, |status| !status.state.is_live())
}

/// Waits until the container's owner has ended it and cleared away.
pub fn wait_for_end(store: &Store, id: &str, owner: Process) -> Result<()> {
    wait_while(store, id, owner, |_| true)
}

fn wait_while(store: &Store, id: &str, owner: Process, so: impl Fn(&Status) -> bool) -> Result<()> {
    let Some(pidfd) = owner.open().context("open the supervisor")? else { return Ok(()) };
    while atomic::read_json::<Status>(&store.live_status(id))?.is_some_and(|status| so(&status)) {
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(20_u8)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            other => return other.map(drop).context("wait for the supervisor"),
        }
    }
    Ok(())
}
