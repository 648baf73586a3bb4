//! One more process in a running container.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::libc;
use sys::clone::{CloneOptions, Cloned};
use sys::path::Root;

use super::channel::{ProcessEnd, Report};
use super::steps::{self, Last};
use crate::cgroup;
use crate::rootfs::shared;
use crate::security::procfs::Procfs;
use crate::security::{identity, labels, limits, scheduling};
use crate::spec::linux::{MemoryPolicy, Personality};

/// What the runtime prepared.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What `create` has as well.
    pub last: Last<'a>,
    /// The container's first process.
    pub init: &'a OwnedFd,
    /// `CLONE_NEW…` of the namespaces to join, without those that this process was born in.
    pub namespaces: i32,
    /// Whether processes of the container may look into others: then only a process that has nothing of the host
    /// open, and is in all other namespaces, enters theirs.
    pub watched: bool,
    /// The root to enter where there is no mount namespace: its path and the id of its mount.
    pub shared_root: Option<(&'a Path, u64)>,
    /// `tasks` files of version 1 to join by.
    pub tasks: &'a [OwnedFd],
    /// The container's execution domain and NUMA policy.
    pub domain: (Option<&'a Personality>, Option<&'a MemoryPolicy>),
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
    } else if affinity.initial.is_empty() {
        // As for the container's first process.
        let _ = sys::sched::use_all_processors();
    }
    let now = if plan.watched { plan.namespaces & !libc::CLONE_NEWPID } else { plan.namespaces };
    if now != 0 {
        // All at once, by the one process: they cannot be those of two containers.
        sys::namespace::join(plan.init.as_fd(), now).context("join the container's namespaces")?;
    }
    if plan.namespaces & libc::CLONE_NEWUSER != 0 {
        identity::become_namespace_root()?;
    }
    if let Some((rootfs, id)) = plan.shared_root {
        shared::enter_again(rootfs, id)?;
    }
    if let Some(personality) = plan.domain.0 {
        scheduling::set_personality(personality)?;
    }
    if let Some(policy) = plan.domain.1 {
        scheduling::set_memory_policy(policy)?;
    }
    steps::new_session();
    if process.selinux_label.is_empty() {
        // Best effort: a user with too many keys shares what there is.
        let _ = sys::keyring::join_new_session(&plan.keyring);
    } else {
        labels::join_new_keyring(plan.last.proc, &plan.keyring, &process.selinux_label)?;
    }
    if plan.watched {
        enter_watched(plan)?;
        let proc = Procfs::of_own_namespace()?;
        return finish(&Last { proc: &proc, ..plan.last });
    }
    finish(&plan.last)
}

/// Goes on as a new process of the container's PID namespace, in which nothing can be found that is not the
/// container's. (One that is not watched is born there: its memory and descriptors are closed to all who lack
/// `CAP_SYS_PTRACE`, see [`Plan::watched`].)
fn enter_watched(plan: &Plan<'_>) -> Result<()> {
    sys::namespace::join(plan.init.as_fd(), libc::CLONE_NEWPID)
        .context("join the container's PID namespace")?;
    let channel = plan.last.channel;
    channel.close_others_from(3 + plan.last.descriptors.all)?;
    let options = CloneOptions { sibling: true, ..CloneOptions::default() };
    match sys::clone::clone(options).context("make the process")? {
        // Nothing is reported before the runtime knows who is speaking.
        Cloned::Child => channel.wait(),
        Cloned::Parent { pid, .. } => {
            channel.tell(&Report::Cloned(pid))?;
            sys::clone::exit_now(0)
        }
    }
}

fn finish(last: &Last<'_>) -> Result<Infallible> {
    let root = Root::open(Path::new("/")).context("open the container's root")?;
    steps::standard_streams(last.process, last.channel, &root, false)?;
    steps::become_program(last, &root, None, None::<fn(&[CString]) -> Result<()>>)
}
