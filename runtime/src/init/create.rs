//! The first process of a container, from `clone3(2)` to its program.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::libc;
use nix::sys::stat::{Mode, umask};
use sys::clone::{CLONE_NEWTIME, CloneOptions, Cloned};
use sys::path::{Node, Root};

use super::channel::{ProcessEnd, Report};
use super::steps::{self, Last};
use super::wait::Waiting;
use crate::cgroup::{self, Location};
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view;
use crate::hooks::{self, Environment};
use crate::lifecycle::descriptors::Descriptors;
use crate::log;
use crate::namespace::{Namespaces, time};
use crate::rootfs::devices::Source;
use crate::rootfs::label::Label;
use crate::rootfs::mount::{self, Planned};
use crate::rootfs::options::Propagation;
use crate::rootfs::protect::Cover;
use crate::rootfs::ready::Ready;
use crate::rootfs::{cgroupfs, devices, pivot, propagation, protect, shared};
use crate::security::procfs::Procfs;
use crate::security::{identity, labels, limits, scheduling};
use crate::spec::annotations;
use crate::spec::check::sysctl_path;
use crate::spec::document::Document;

/// All that the runtime prepared for the new process.
#[derive(Debug)]
pub struct Plan<'a> {
    /// config.json.
    pub document: &'a Document,
    /// The state, for hooks.
    pub state: &'a State,
    /// Namespaces to make and join.
    pub namespaces: &'a Namespaces,
    /// `mounts` with options read.
    pub mounts: &'a [Planned<'a>],
    /// The root file system's path, and its tree where the runtime had to open it.
    pub rootfs: (&'a Path, Option<OwnedFd>),
    /// `linux.rootfsPropagation`.
    pub propagation: Propagation,
    /// The cgroup.
    pub cgroup: &'a Location,
    /// Whether the network namespace is still to be made.
    pub makes_network: bool,
    /// Whether the runtime sets its limits, as it has the time.
    pub is_limited: bool,
    /// The trusted procfs.
    pub proc: &'a Procfs,
    /// Whether the runtime has anything to do before the program may run.
    pub asks: bool,
    /// Whether a service manager waits for the program to be ready.
    pub notifies: bool,
    /// Wait for `runtime start`.
    pub waits: bool,
    /// `--no-pivot`.
    pub no_pivot: bool,
    /// Not `--no-new-keyring`.
    pub new_keyring: bool,
    /// What the program keeps of the caller's.
    pub descriptors: Descriptors,
}

/// Runs the new process; ends it where it cannot become its program, after telling the runtime.
pub fn run(plan: Plan<'_>, channel: &ProcessEnd) -> ! {
    let Err(err) = become_container(plan, channel);
    let _ = channel.tell(&Report::Failed(err.context("container init")));
    sys::clone::exit_now(1)
}

fn become_container(plan: Plan<'_>, channel: &ProcessEnd) -> Result<Infallible> {
    // Asked first: in a user namespace that it has joined it may be another user.
    let waits = plan.namespaces.wait_for_admission();
    let mut joined = 0;
    if plan.namespaces.joins_before_birth() {
        joined = join_and_clone(plan.namespaces, channel)?;
    }
    if waits {
        channel.wait()?;
    } else if !plan.is_limited {
        limits::apply(plan.proc, 0, plan.document.process.as_ref().context("process is missing")?)?;
    }
    // Neighbours in a joined PID namespace must not look into a process that still has the host's files open
    // (CVE-2016-9962).
    nix::sys::prctl::set_dumpable(false).context("become undumpable")?;
    steps::new_session();
    let ready = enter_namespaces(&plan, joined, channel)?;
    if plan.new_keyring {
        let label = plan.document.process.as_ref().map_or("", |process| process.selinux_label.as_str());
        labels::join_new_keyring(plan.proc, &format!("_ses.{}", plan.state.id), label)?;
    }
    set_names(plan.document)?;
    let (old_root, unsealed) = build_root(&plan, ready)?;
    let mut null = Cover::null()?;
    let wait_for_record = || channel.confirmed(plan.document.linux.seccomp.is_some());
    let hooks = &plan.document.hooks;
    let mut record = None;
    if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() {
        // Comes before the answer.
        record = Some(wait_for_record()?);
        channel.ask(&Report::Hooks)?;
    }
    if !hooks.create_container.is_empty() {
        // Where they begin under runc; what comes next enters the root in any case.
        nix::unistd::fchdir(&old_root).context("enter the root file system")?;
    }
    run_hooks(&plan, "createContainer", Status::Creating, &[])?;
    let root = if plan.state.shared_root.is_some() {
        shared::enter(&old_root)?;
        old_root
    } else {
        let moved =
            if plan.no_pivot { pivot::move_over(&old_root, plan.rootfs.0) } else { pivot::enter(&old_root) };
        drop(old_root);
        Root::from(moved?)
    };

    let process = plan.document.process.as_ref().context("process is missing")?;
    steps::standard_streams(process, channel, &root, true)?;
    finish_root(&plan, &root, &unsealed, &mut null)?;
    drop(unsealed);
    if let Some(personality) = &plan.document.linux.personality {
        scheduling::set_personality(personality)?;
    }
    if let Some(policy) = &plan.document.linux.memory_policy {
        scheduling::set_memory_policy(policy)?;
    }
    let (filter, fds) = record.map_or_else(wait_for_record, Ok)?;
    let mut fds = fds.into_iter();
    let waiting = if plan.waits { fds.next().zip(fds.next()) } else { None };
    let program = fds.next();
    let last = Last {
        process,
        filter: filter.as_ref(),
        own_program: program.as_ref(),
        proc: plan.proc,
        channel,
        asks: plan.asks,
        notifies: plan.notifies,
        descriptors: plan.descriptors,
    };
    let hooks = |environment: &[CString]| run_hooks(&plan, "startContainer", Status::Created, environment);
    let before = (!plan.document.hooks.start_container.is_empty()).then_some(hooks);
    steps::become_program(&last, &root, waiting.map(Waiting::new), before)
}

/// A PID namespace is joined by one's children only, and a user namespace must be joined before others are made in
/// it: so this process joins them and makes a sibling, which goes on in its place.
/// Returns `CLONE_NEW…` of those it is in then.
fn join_and_clone(namespaces: &Namespaces, channel: &ProcessEnd) -> Result<i32> {
    let joined = namespaces.join_before_birth()?;
    let options = CloneOptions { namespaces: namespaces.at_clone(), cgroup: None, sibling: true };
    match sys::clone::clone(options).context("make the container's process")? {
        Cloned::Child => Ok(joined),
        Cloned::Parent { pid, .. } => {
            channel.tell(&Report::Cloned(pid))?;
            sys::clone::exit_now(0)
        }
    }
}

/// Those in `joined` have been entered. Returns what the runtime has made of the root file system meanwhile.
fn enter_namespaces(plan: &Plan<'_>, joined: i32, channel: &ProcessEnd) -> Result<Ready> {
    let namespaces = plan.namespaces;
    if plan.makes_network {
        sys::namespace::unshare(libc::CLONE_NEWNET).context("make a network namespace")?;
    }
    // While still in the host's cgroup namespace and with the host's rights.
    let (tasks, ready) = channel.cgroup()?;
    cgroup::join(&tasks).context("join the container's cgroup")?;
    drop(tasks);
    // Whoever started the runtime was perhaps meant to keep to a few: it is the cgroup that says so of a container.
    let _ = sys::sched::use_all_processors();
    for one in namespaces.joined.iter().filter(|one| one.flag & joined == 0) {
        one.enter()?;
    }
    if namespaces.new & CLONE_NEWTIME != 0 {
        // Before the change of user: an undumpable process's files in /proc belong to the host's root.
        time::enter_new(&plan.document.linux.time_offsets)?;
    }
    if namespaces.has(libc::CLONE_NEWUSER) {
        identity::become_namespace_root()?;
    }
    if namespaces.new & libc::CLONE_NEWCGROUP != 0 {
        // Only now: the cgroup that we are in becomes the root of the namespace.
        sys::namespace::unshare(libc::CLONE_NEWCGROUP).context("make a cgroup namespace")?;
    }
    if namespaces.new & libc::CLONE_NEWNET != 0 {
        sys::link::loopback_up().context("bring the loopback interface up")?;
    }
    Ok(ready)
}

fn set_names(document: &Document) -> Result<()> {
    if !document.hostname.is_empty() {
        nix::unistd::sethostname(&document.hostname).context("set the hostname")?;
    }
    if !document.domainname.is_empty() {
        sys::names::set_domain(&document.domainname).context("set the domain name")?;
    }
    Ok(())
}

/// The new root with all that is mounted over it, while the host's is still `/`; and what of it is to be read-only.
fn build_root(plan: &Plan<'_>, mut ready: Ready) -> Result<(Root, Vec<OwnedFd>)> {
    // Modes of what we make are meant as they are.
    umask(Mode::empty());
    let tree = plan.rootfs.1.as_ref().map(OwnedFd::try_clone).transpose()?.or_else(|| ready.root.take());
    let root = match tree {
        Some(tree) if plan.state.shared_root.is_some() => {
            shared::attach(&tree, plan.rootfs.0)?;
            tree
        }
        tree => propagation::isolate(plan.rootfs.0, plan.propagation, tree)?,
    };
    let root = Root::from(root);
    let label = Label::of(plan.document);
    let own_cgroups = plan.namespaces.has(libc::CLONE_NEWCGROUP);
    let mut unsealed = Vec::new();
    for (index, planned) in plan.mounts.iter().enumerate() {
        log::debug(format_args!("mount {} ({})", planned.mount.destination.display(), planned.mount.kind));
        if annotations::shows_systemd_v1(plan.document, planned.mount) {
            cgroupfs::mount_systemd(&root, planned, (plan.cgroup, own_cgroups), label)?;
        } else if planned.is_cgroup() {
            cgroupfs::mount(&root, planned, (plan.cgroup, own_cgroups), label)?;
        } else {
            unsealed.extend(planned.perform_unsealed(&root, label, ready.take(index))?);
        }
    }
    // A /dev that the caller mounted from elsewhere is the caller's to fill.
    let foreign =
        |planned: &Planned<'_>| planned.options.bind && planned.mount.destination == Path::new("/dev");
    if ready.has_devices {
        // Not somewhere else by a link of the image.
        devices::open_dev(&root)?;
    } else if !plan.mounts.iter().any(foreign) {
        let source = if plan.namespaces.has(libc::CLONE_NEWUSER) { Source::Bind } else { Source::MakeOrBind };
        devices::fill(&root, &plan.document.linux.devices, source)?;
    }
    Ok((root, unsealed))
}

/// What can only be done, or must be done last, inside the new root.
fn finish_root(plan: &Plan<'_>, root: &Root, unsealed: &[OwnedFd], null: &mut Cover) -> Result<()> {
    let linux = &plan.document.linux;
    for (name, value) in &linux.sysctl {
        let path = format!("sys/{}", sysctl_path(name));
        plan.proc.write(&path, value).with_context(|| format!("set sysctl {name}"))?;
    }
    protect::make_read_only(root, &linux.readonly_paths)?;
    protect::mask(root, &linux.masked_paths, null, Label::of(plan.document))?;
    if !linux.rootfs_propagation.is_empty() {
        propagation::set(root.as_fd(), plan.propagation).context("set linux.rootfsPropagation")?;
    }
    // As runc and crun: a missing one is made. What is wrong with one that is there is told where it is entered.
    let cwd = plan.document.process.as_ref().map_or(Path::new(""), |process| &process.cwd);
    let _ = root.make(cwd, Node::Directory, Mode::from_bits_truncate(0o755));
    // With its devices, its terminal and what is mounted in it.
    unsealed.iter().try_for_each(mount::seal)?;
    if plan.document.root.as_ref().is_some_and(|root| root.readonly) {
        protect::make_root_read_only(root)?;
    }
    Ok(())
}

fn run_hooks(plan: &Plan<'_>, kind: &str, status: Status, environment: &[CString]) -> Result<()> {
    let all = &plan.document.hooks;
    let hooks = if kind == "createContainer" { &all.create_container } else { &all.start_container };
    if hooks.is_empty() {
        return Ok(());
    }
    let pid = nix::unistd::getpid().as_raw();
    hooks::run(kind, hooks, &view::for_hook(plan.state, status, pid), Environment::Lines(environment))
}
