//! One more process in a running container.

use std::convert::Infallible;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::libc;
use sys::path::Root;

use super::channel::{ProcessEnd, Report};
use super::steps::{self, Last};
use crate::cgroup;
use crate::rootfs::shared;
use crate::security::{identity, limits, scheduling};

/// What the runtime prepared.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What `create` has as well.
    pub last: Last<'a>,
    /// The container's first process.
    pub init: &'a OwnedFd,
    /// `CLONE_NEW…` of the namespaces to join, without the PID namespace, which this process was born in.
    pub namespaces: i32,
    /// The root to enter where there is no mount namespace: its path and the id of its mount.
    pub shared_root: Option<(&'a Path, u64)>,
    /// `tasks` files of version 1 to join by.
    pub tasks: &'a [OwnedFd],
    /// The session keyring's name.
    pub keyring: String,
}

/// Runs the new process; ends it where it cannot become its program, after telling the runtime.
pub fn run(plan: &Plan<'_>, channel: &ProcessEnd) -> ! {
    let Err(err) = become_process(plan);
    let _ = channel.tell(&Report::Failed(err.context("exec process")));
    sys::clone::exit_now(1)
}

fn become_process(plan: &Plan<'_>) -> Result<Infallible> {
    let process = plan.last.process;
    limits::apply(plan.last.proc, 0, process)?;
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    if !affinity.initial.is_empty() {
        scheduling::set_affinity(&affinity.initial)?;
    }
    cgroup::join(plan.tasks).context("join the container's cgroup")?;
    if !affinity.last.is_empty() {
        scheduling::set_affinity(&affinity.last)?;
    }
    if plan.namespaces != 0 {
        // All at once, by the one process: they cannot be those of two containers.
        sys::namespace::join(plan.init.as_fd(), plan.namespaces)
            .context("join the container's namespaces")?;
    }
    if plan.namespaces & libc::CLONE_NEWUSER != 0 {
        identity::become_namespace_root()?;
    }
    if let Some((rootfs, id)) = plan.shared_root {
        shared::enter_again(rootfs, id)?;
    }
    steps::new_session();
    // Best effort, as at creation: a kernel without keys has nothing to share.
    let _ = sys::keyring::join_new_session(&plan.keyring);
    let root = Root::open(Path::new("/")).context("open the container's root")?;
    steps::standard_streams(&plan.last, &root, false)?;
    steps::become_program(&plan.last, &root, None, || Ok(()))
}
