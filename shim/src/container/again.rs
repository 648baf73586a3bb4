//! A stopped container starts again, and waiting for its last owner.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::{State, Status};
use contracts::lock::Lock;
use contracts::process::Process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::start::{Start, start};
use super::{Store, status};
use crate::attach::client;
use crate::attach::wire::Request;

/// Starts a stopped container: `start`, `restart`, `boot`.
pub fn again(store: &Store, id: &str, how: Start<'_>) -> Result<bool> {
    let (mut lock, mut status) = lock_settled(store, id)?;
    let mut asked = false;
    while status.state == State::Initialized && how.checkpoint.is_none() {
        drop(lock);
        match client::request(store, id, &Request::Start) {
            // Another one follows it, and knows whether that was done.
            Err(err) if !asked && err.is::<client::Gone>() => asked = true,
            other => return other.map(|()| true),
        }
        (lock, status) = lock_settled(store, id)?;
    }
    if status.owner.is_some() {
        return Ok(asked);
    }
    start(store, &store.load(id)?, &lock, how)?;
    Ok(true)
}

/// The container's lock, taken when it either lives or is at rest: not while its last supervisor still clears away, which
/// may need the lock for that.
pub fn lock_settled(store: &Store, id: &str) -> Result<(Lock, Status)> {
    loop {
        let lock = store.lock(id)?;
        let status = status::read_locked(store, id, &lock)?;
        match status.owner {
            Some(owner) if !status.state.is_live() => {
                drop(lock);
                wait_for(store, id, owner)?;
            }
            _ => return Ok((lock, status)),
        }
    }
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
