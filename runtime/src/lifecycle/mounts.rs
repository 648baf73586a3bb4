//! `mounts add` and `mounts remove`: mounts of a container that already runs.

use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use sys::clone::{CloneOptions, Cloned};
use sys::path::Root;

use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::init::channel::{self, Report};
use crate::rootfs::{idmap, mount};
use crate::spec::document::Mount;

/// Where the mounts are made: all but what would change what is mounted (whose processes, whose cgroups).
const JOINED: i32 =
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET | libc::CLONE_NEWUTS;

/// Makes mounts, in their order. Those of bind mounts are opened on the host.
///
/// # Errors
/// The container does not run; naming the mount that failed. Those before it stand.
pub fn add(directory: &Directory, mounts: &[Mount]) -> Result<()> {
    let state = running(directory)?;
    let mut plan = mount::plan(mounts, &state.bundle, None)?;
    mount::open_early(&mut plan, true, idmap::Container::default())?;
    inside(&state, || {
        let root = Root::open(Path::new("/")).context("open the container's root")?;
        plan.iter().try_for_each(|planned| planned.perform(&root, None))
    })
}

/// Removes mounts by their destinations, the last one first.
///
/// # Errors
/// The container does not run; nothing is mounted there.
pub fn remove(directory: &Directory, mounts: &[Mount]) -> Result<()> {
    let state = running(directory)?;
    inside(&state, || {
        let root = Root::open(Path::new("/")).context("open the container's root")?;
        mounts.iter().rev().try_for_each(|mount| {
            let what = || format!("unmount {}", mount.destination.display());
            let (parent, name) = root.parent_of(&mount.destination).with_context(what)?;
            sys::mount::detach_in(parent.as_fd(), &name).with_context(what)
        })
    })
}

fn running(directory: &Directory) -> Result<State> {
    directory.lock()?;
    let state = directory.state()?;
    match Status::of(directory, &state)? {
        Status::Running | Status::Created | Status::Paused => {}
        status => fault!(WrongState, "cannot change the mounts of a container in the {status} state"),
    }
    if state.namespaces & libc::CLONE_NEWNS == 0 {
        fault!(Unsupported, "the container shares the host's mount namespace");
    }
    Ok(state)
}

/// Does `job` in a process within the container's namespaces.
fn inside(state: &State, job: impl FnOnce() -> Result<()>) -> Result<()> {
    let Some(init) = state.init.context("no process")?.open().context("open the container's process")? else {
        fault!(WrongState, "the container has stopped")
    };
    let (listen, tell) = channel::pair()?;
    // Its processes must not look into one that has the host's files open (CVE-2016-9962).
    nix::sys::prctl::set_dumpable(false).context("become undumpable")?;
    match sys::clone::clone(CloneOptions::default()).context("make a process")? {
        Cloned::Child => {
            drop(listen);
            let joined = sys::namespace::join(init.as_fd(), state.namespaces & JOINED)
                .context("join the container's namespaces");
            let report = match joined.and_then(|()| job()) {
                Ok(()) => Report::Ready,
                Err(err) => Report::Failed(err),
            };
            let _ = tell.tell(&report);
            sys::clone::exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(tell);
            let report = listen.receive();
            let _ = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED);
            match report? {
                Report::Ready => Ok(()),
                Report::Failed(err) => Err(err),
                _ => bail!("the process in the container was killed"),
            }
        }
    }
}
