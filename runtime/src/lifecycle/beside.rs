//! What the runtime does for a new container while the container's process sets itself up: the two work side by side,
//! on two processors where there are two, and the process waits only for what it needs next.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contracts::process::Process;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

use super::made::Made;
use crate::cgroup::{self, Cgroup};
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view::{self, View};
use crate::hooks::{self, Environment};
use crate::init::channel::{Report, RuntimeEnd};
use crate::init::wait;
use crate::namespace::{Namespaces, net_devices, user};
use crate::rootfs::label::Label;
use crate::rootfs::mount::Planned;
use crate::rootfs::options::Propagation;
use crate::rootfs::ready::Ready;
use crate::security::limits;
use crate::security::procfs::Procfs;
use crate::spec::document::Document;
use crate::{log, own_exe, seccomp};

/// A creation whose process has been cloned.
#[derive(Debug)]
pub struct Beside<'a> {
    /// config.json.
    pub document: &'a Document,
    /// Namespaces to make and join.
    pub namespaces: &'a Namespaces,
    /// `mounts` with options read.
    pub mounts: &'a [Planned<'a>],
    /// The root file system's path, and `linux.rootfsPropagation`.
    pub rootfs: (&'a Path, Propagation),
    /// The trusted procfs.
    pub proc: &'a Procfs,
    /// The container's directory.
    pub directory: &'a Directory,
    /// The cgroup, as far as the clone needed it.
    pub cgroup: Cgroup,
    /// What the rest of the cgroup is to be.
    pub request: cgroup::Request<'a>,
    /// Whose a cgroup is that is given away: the container's user as the host knows it.
    pub user: Option<u32>,
    /// The way to the process.
    pub channel: &'a RuntimeEnd,
    /// Whether the process asks before it executes its program.
    pub asks: bool,
    /// Whether it waits for `runtime start`.
    pub waits: bool,
}

impl Beside<'_> {
    /// Does the runtime's share, from the clone of the process `pid` until it is ready.
    ///
    /// # Errors
    /// Any, also those of the process itself.
    pub fn work(mut self, mut pid: i32, state: &mut State, made: &mut Made) -> Result<()> {
        let mut filter = None;
        if !self.namespaces.joins_before_birth() {
            filter = self.furnish(pid, state, made)?;
        }
        own_exe::let_go_of_mount();
        if !self.is_asked(filter.as_ref()) {
            self.channel.wait_for_end()?;
        }
        loop {
            match self.channel.receive()? {
                Report::Cloned(sibling) => {
                    if let Some(pidfd) = &mut made.pidfd {
                        adopt(pidfd, sibling)?;
                    }
                    pid = sibling;
                    filter = self.furnish(pid, state, made)?;
                }
                Report::Hooks => {
                    let stdin = view::for_hook(state, Status::Creating, pid);
                    let hooks = &self.document.hooks;
                    hooks::run("prestart", &hooks.prestart, &stdin, Environment::Ours)?;
                    hooks::run("createRuntime", &hooks.create_runtime, &stdin, Environment::Ours)?;
                    self.channel.proceed()?;
                }
                Report::Terminal(master) => made.terminal = Some(master),
                Report::Listener(fd) => {
                    let view = View::new(state, Status::Creating);
                    introduce(filter.as_ref(), &view, pid, &fd)?;
                    self.channel.proceed()?;
                }
                Report::Ready => break,
                Report::Failed(err) => return Err(err),
                Report::Closed => bail!("the container's process was killed while it was set up"),
            }
        }
        if let Some(name) = self.request.delegated() {
            self.cgroup.delegate(name, pid, self.user)?;
        }
        self.directory.publish(state)
    }

    /// Gives the process all that it waits for, in the order in which it does; returns its system call filter.
    fn furnish(&mut self, pid: i32, state: &mut State, made: &mut Made) -> Result<Option<seccomp::Program>> {
        self.admit(pid, state)?;
        let completed = self.cgroup.complete(&self.request);
        made.cgroup = Some(self.cgroup.made());
        completed?;
        let has_time = has_time(self.document, self.namespaces, &self.cgroup);
        let ready = if has_time { self.make_ready() } else { Ready::default() };
        self.channel.hand_cgroup(&self.cgroup.tasks()?, &ready)?;
        let profile = self.document.linux.seccomp.as_ref();
        let filter = profile.map(seccomp::compile).transpose()?;
        let encoded = filter.as_ref().map(seccomp::Program::encode);
        if let (Some(filter), Some(bytes)) = (&filter, &encoded) {
            log::debug(format_args!("system call filter: {} instructions", filter.instructions.len()));
            self.directory.write_bytes("seccomp.bpf", bytes)?;
        }
        // When the process is ready, only a name has to change.
        state.complete(self.document, Process::of(pid).context("look at the container's process")?);
        self.directory.save(state)?;
        // Only now: if this program is killed, whoever finds the container must find a process that runs in it too.
        let waiting = self.waits.then(|| wait::prepare(self.directory)).transpose()?;
        let program = own_exe::safe_file()?;
        let fds: Vec<_> = waiting.iter().flatten().chain(&program).map(OwnedFd::as_fd).collect();
        self.channel.confirm(encoded.as_deref(), &fds)?;
        Ok(filter)
    }

    /// What can be made of the root file system beforehand.
    fn make_ready(&self) -> Ready {
        if self.namespaces.has(libc::CLONE_NEWNS) && Label::of(self.document).is_none() {
            let (rootfs, propagation) = self.rootfs;
            Ready::make(rootfs, propagation, self.mounts, &self.document.linux.devices)
        } else {
            Ready::default()
        }
    }

    /// Whether the process waits for the runtime once it has been furnished.
    fn is_asked(&self, filter: Option<&seccomp::Program>) -> bool {
        let hooks = &self.document.hooks;
        self.asks
            || self.namespaces.joins_before_birth()
            || !hooks.prestart.is_empty()
            || !hooks.create_runtime.is_empty()
            || filter.is_some_and(|filter| filter.listener.is_some())
    }

    /// What the process cannot do for itself before it is somebody in its namespaces.
    fn admit(&self, pid: i32, state: &State) -> Result<()> {
        let (document, namespaces) = (self.document, self.namespaces);
        if namespaces.new & libc::CLONE_NEWUSER != 0 {
            user::write_maps(pid, &document.linux.uid_mappings, &document.linux.gid_mappings)?;
        }
        if !document.linux.net_devices.is_empty() {
            let target = namespaces.network(pid)?;
            net_devices::move_all(&document.linux.net_devices, target.as_fd())?;
        }
        if let Some(group) = &state.intel_rdt {
            group.join(pid).context("linux.intelRdt")?;
        }
        let waits = namespaces.wait_for_admission();
        if waits || has_time(document, namespaces, &self.cgroup) {
            let process = document.process.as_ref().context("process is missing")?;
            limits::apply(self.proc, pid, process)?;
        }
        if waits {
            self.channel.proceed()?;
        }
        Ok(())
    }
}

/// Whether the process makes its network namespace by itself. Devices are moved into one that is there.
#[must_use]
pub fn makes_network(document: &Document, namespaces: &Namespaces) -> bool {
    namespaces.can_make_network_late() && document.linux.net_devices.is_empty()
}

/// Whether the runtime can do more for the process while that makes its network namespace: with the many directories of
/// version 1 it has enough to do.
#[must_use]
pub fn has_time(document: &Document, namespaces: &Namespaces, cgroup: &Cgroup) -> bool {
    makes_network(document, namespaces) && cgroup.location().is_v2()
}

/// Takes a process that the one behind `pidfd` made as its sibling in its place.
///
/// # Errors
/// It is gone.
pub fn adopt(pidfd: &mut OwnedFd, sibling: i32) -> Result<()> {
    // Ours to reap, like the one that made it, so its pid cannot have been reused.
    let new = sys::pidfd::open(sibling).context("open the container's process")?;
    let first = std::mem::replace(pidfd, new);
    let _ = waitid(Id::PIDFd(first.as_fd()), WaitPidFlag::WEXITED);
    Ok(())
}

/// Hands the seccomp listener of the process `pid` to the agent of the profile, with the container's state.
///
/// # Errors
/// The agent does not take it.
pub fn introduce(
    filter: Option<&seccomp::Program>,
    view: &View<'_>,
    pid: i32,
    listener: &OwnedFd,
) -> Result<()> {
    let agent =
        filter.and_then(|filter| filter.listener.as_ref()).context("a listener that nobody asked for")?;
    agent.send(&serde_json::to_value(view)?, pid, listener.as_fd())
}
