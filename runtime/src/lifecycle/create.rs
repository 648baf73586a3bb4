//! `create`, as one list of steps with their undoing.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::libc;
use sys::clone::{CloneOptions, Cloned};

use super::beside::{self, Beside};
use super::descriptors::Descriptors;
use super::made::Made;
use super::notify_socket::{self, NotifySocket};
use super::pid_file;
use crate::cgroup::{self, Cgroup};
use crate::cli;
use crate::console;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::init;
use crate::init::channel::{self, Report, RuntimeEnd};
use crate::namespace::Namespaces;
use crate::rootfs::options::Propagation;
use crate::rootfs::{idmap, mount, propagation, shared};
use crate::security::procfs::Procfs;
use crate::spec::document::Document;
use crate::spec::{annotations, check, load};
use crate::{intel_rdt, log, own_exe};

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// `--root`.
    pub root: &'a Path,
    /// The flags of `create`.
    pub flags: &'a cli::Create,
    /// `--rootless`.
    pub rootless: bool,
    /// Who makes its cgroup.
    pub manager: cli::CgroupManager,
    /// Whether the program waits for `runtime start` (else for [`Created::launch`]).
    pub waits: bool,
    /// Whether the runtime will be gone when the program runs.
    pub detached: bool,
}

/// A container whose process is ready to execute its program.
#[derive(Debug)]
pub struct Created {
    /// Its directory, locked.
    pub directory: Directory,
    /// Its state, saved.
    pub state: State,
    /// Its process.
    pub pidfd: OwnedFd,
    /// The terminal's master end, where nobody else has got it.
    pub terminal: Option<OwnedFd>,
    /// By which its program says that it is ready, where a service manager wants to know it from us.
    pub notify: Option<NotifySocket>,
    channel: RuntimeEnd,
    /// Whether its process waits for us now.
    asks: bool,
}

/// All that is known before anything is made.
struct Input<'a> {
    request: &'a Request<'a>,
    document: Document,
    bundle: PathBuf,
    rootfs: PathBuf,
    /// `linux.rootfsPropagation`.
    propagation: Propagation,
    namespaces: Namespaces,
    descriptors: Descriptors,
    /// The trusted procfs.
    proc: Procfs,
    /// See [`asks`].
    asks: bool,
    /// Whether a service manager waits for the program to be ready.
    notifies: bool,
}

/// Creates a container.
///
/// # Errors
/// Any; then nothing of it is left.
pub fn create(request: &Request<'_>) -> Result<Created> {
    let flags = request.flags;
    let bundle = load::bundle_path(&flags.bundle)?;
    let mut document = load::document(&bundle, flags.config.as_deref())?;
    let namespaces = Namespaces::read(&document.linux.namespaces)?;
    check::document(&document, &namespaces)?;
    let terminal = document.process.as_ref().is_some_and(|process| process.terminal == Some(true));
    console::check(terminal, flags.console_socket.as_deref(), request.detached)?;
    if !own_exe::can_wait(&document, &namespaces) {
        own_exe::protect()?;
    }
    let descriptors = Descriptors::read(flags.preserve_fds, true)?;
    let propagation = propagation::read(&document.linux.rootfs_propagation)?;
    let rootfs = load::rootfs_path(&mut document, &bundle)?;
    let proc = Procfs::open()?;
    log::debug(format_args!("bundle {}, root file system {}", bundle.display(), rootfs.display()));
    let asks = asks(request, &document);

    let directory = Directory::reserve(request.root, &flags.id)?;
    let notifies = notify_socket::is_wanted();
    if notifies {
        let place = notify_socket::directory(&directory);
        document.mounts.push(notify_socket::mount(std::path::absolute(&place).unwrap_or(place)));
    }
    let input = Input {
        request,
        document,
        bundle,
        rootfs,
        propagation,
        namespaces,
        descriptors,
        proc,
        asks,
        notifies,
    };
    let mut made = Made::default();
    let result =
        listen(&input, &directory).and_then(|notify| Ok((make(&input, &directory, &mut made)?, notify)));
    // Not given back piece by piece: every piece's page is shared with the container's process by now, and would be
    // copied first.
    std::mem::forget(input);
    match result {
        Ok(((state, channel), notify)) => {
            let Some(pidfd) = made.pidfd else { bail!("no process was made") };
            Ok(Created { directory, state, pidfd, terminal: made.terminal, notify, channel, asks })
        }
        Err(err) => {
            made.undo(&directory);
            Err(err)
        }
    }
}

/// Before the program can run, unless `start` is going to come and listen.
fn listen(input: &Input<'_>, directory: &Directory) -> Result<Option<NotifySocket>> {
    if !input.notifies {
        return Ok(None);
    }
    notify_socket::prepare(directory)?;
    if input.request.waits { Ok(None) } else { NotifySocket::listen(directory) }
}

fn make(input: &Input<'_>, directory: &Directory, made: &mut Made) -> Result<(State, RuntimeEnd)> {
    let (document, flags) = (&input.document, input.request.flags);
    let mut state = first_state(input)?;
    if !input.namespaces.has(libc::CLONE_NEWNS) {
        let (tree, id) = shared::prepare(&input.rootfs)?;
        state.shared_root = Some(id);
        made.shared_root = Some((Some(tree), input.rootfs.clone(), id));
    }
    let resctrl = allocate(input, &mut state)?;
    let request = cgroup::Request {
        path: document.linux.cgroups_path.as_deref(),
        id: &flags.id,
        resources: document.linux.resources.as_ref(),
        rootless: input.request.rootless,
        annotations: Some(&document.annotations),
        systemd: input.request.manager == cli::CgroupManager::Systemd,
        disabled: input.request.manager == cli::CgroupManager::Disabled,
    };
    // Recorded before it is made, so that a kill of this program at any later point leaves something that `delete`
    // knows how to remove.
    let cgroup = Cgroup::prepare(&request, |location| {
        state.cgroup = Some(location.clone());
        directory.save(&state)
    })?;
    for member in &cgroup.location().dirs {
        log::debug(format_args!("cgroup {}", member.path.display()));
    }
    state.cgroup = Some(cgroup.location().clone());
    made.cgroup = Some(cgroup.made());
    if let (Some(root), Some(group), Some(wanted)) = (resctrl, &state.intel_rdt, &document.linux.intel_rdt) {
        made.intel_rdt = Some(group.clone());
        group.make(&root, wanted).context("linux.intelRdt")?;
    }
    let mut mounts = mount::plan(&document.mounts, &input.bundle, Some(&input.rootfs))?;
    let (channel, pid) = spawn(input, directory, &state, (&cgroup, &mut mounts), made)?;
    let (namespaces, proc) = (&input.namespaces, &input.proc);
    let beside = Beside {
        document,
        namespaces,
        mounts: &mounts,
        rootfs: (&input.rootfs, input.propagation),
        proc,
        directory,
        cgroup,
        request,
        user: host_user(input),
        channel: &channel,
        asks: input.asks,
        waits: input.request.waits,
    };
    beside.work(pid, &mut state, made)?;
    // Not given back either: see `input`.
    std::mem::forget(mounts);
    hand_over(input, &state, made)?;
    Ok((state, channel))
}

/// Gives others what they asked to have of the container that is ready now.
fn hand_over(input: &Input<'_>, state: &State, made: &mut Made) -> Result<()> {
    let flags = input.request.flags;
    if let Some(socket) = &flags.console_socket
        && let Some(master) = made.terminal.take()
    {
        console::send(socket, master.as_fd())?;
    }
    let (Some(pidfd), Some(init)) = (&made.pidfd, state.init) else { bail!("no process was made") };
    let receiver = annotations::pidfd_receiver(&input.document);
    for socket in flags.pidfd_socket.iter().chain(&receiver) {
        console::send(socket, pidfd.as_fd())?;
    }
    flags.pid_file.as_ref().map_or(Ok(()), |path| pid_file::write(path, init.pid))
}

/// Whether anything has to be done before the program may run once its process is ready: a cgroup to be given away,
/// [`hand_over`], or `start`.
fn asks(request: &Request<'_>, document: &Document) -> bool {
    let flags = request.flags;
    let cgroup = cgroup::Request { annotations: Some(&document.annotations), ..cgroup::Request::default() };
    let wanted = flags.console_socket.is_some() || flags.pid_file.is_some() || flags.pidfd_socket.is_some();
    wanted || request.waits || cgroup.delegated().is_some() || annotations::pidfd_receiver(document).is_some()
}

/// Notes the groups of Intel RDT that the container is to have; returns where resctrl is mounted.
fn allocate(input: &Input<'_>, state: &mut State) -> Result<Option<PathBuf>> {
    let Some(wanted) = &input.document.linux.intel_rdt else { return Ok(None) };
    let root = intel_rdt::mount().context("linux.intelRdt")?;
    state.intel_rdt = Some(intel_rdt::plan(&root, wanted, &state.id));
    Ok(Some(root))
}

/// A later command may stand in another directory.
fn first_state(input: &Input<'_>) -> Result<State> {
    let flags = input.request.flags;
    Ok(State {
        id: flags.id.clone(),
        bundle: input.bundle.clone(),
        config: flags.config.as_deref().map(load::absolute).transpose()?,
        rootfs: input.rootfs.clone(),
        ..State::of(&input.document, &input.namespaces)
    })
}

/// Makes the process; returns our end of the channel and the process's pid.
fn spawn(
    input: &Input<'_>,
    directory: &Directory,
    state: &State,
    (cgroup, mounts): (&Cgroup, &mut [mount::Planned<'_>]),
    made: &mut Made,
) -> Result<(RuntimeEnd, i32)> {
    let (document, flags) = (&input.document, input.request.flags);
    let userns = input.namespaces.has(libc::CLONE_NEWUSER);
    let maps = (document.linux.uid_mappings.as_slice(), document.linux.gid_mappings.as_slice());
    let container = idmap::Container { maps, joined: input.namespaces.joined_user() };
    if !document.annotations.contains_key(cgroup::beneath::DELEGATED) {
        give_cgroup(input, cgroup, mounts)?;
    }
    // An unprivileged runtime may not copy mounts in its own namespace, nor has its container any need of it.
    let early = userns && nix::unistd::geteuid().is_root();
    mount::open_early(mounts, early, container)?;
    let tree = if early {
        Some(propagation::copy_root(&input.rootfs, propagation::SLAVE)?)
    } else {
        made.shared_root.as_mut().and_then(|(tree, ..)| tree.take())
    };
    let (ours, theirs) = channel::pair()?;

    let makes_network = beside::makes_network(document, &input.namespaces);
    let later = if makes_network { libc::CLONE_NEWNET } else { 0 };
    let namespaces =
        if input.namespaces.joins_before_birth() { 0 } else { input.namespaces.at_clone() & !later };
    let options = CloneOptions { namespaces, cgroup: cgroup.clone_target(), sibling: false };
    match sys::clone::clone(options).context("make the container's process")? {
        Cloned::Parent { pid, pidfd } => {
            log::debug(format_args!("process {pid}, with the namespaces {:#x}", input.namespaces.all()));
            made.pidfd = Some(pidfd);
            Ok((ours, pid))
        }
        Cloned::Child => {
            // The child has its own copies of our descriptors: our end of the channel would keep it from noticing our
            // death, and the directory's would hold the lock.
            drop(ours);
            own_exe::let_go_of_mount();
            directory.release();
            let plan = init::create::Plan {
                document,
                state,
                namespaces: &input.namespaces,
                mounts,
                rootfs: (&input.rootfs, tree),
                propagation: input.propagation,
                cgroup: cgroup.location(),
                makes_network,
                is_limited: beside::has_time(document, &input.namespaces, cgroup),
                proc: &input.proc,
                asks: input.asks,
                notifies: input.notifies,
                waits: input.request.waits,
                no_pivot: flags.no_pivot,
                new_keyring: !flags.no_new_keyring,
                descriptors: input.descriptors,
            };
            init::create::run(plan, &theirs)
        }
    }
}

/// A container that mounts cgroups of its own to write to gets to be the owner of its cgroup.
fn give_cgroup(input: &Input<'_>, cgroup: &Cgroup, mounts: &[mount::Planned<'_>]) -> Result<()> {
    let own = libc::CLONE_NEWCGROUP | libc::CLONE_NEWNS;
    if !cgroup.location().is_v2() || input.namespaces.new & own != own {
        return Ok(());
    }
    if !mounts.iter().any(mount::Planned::is_writable_cgroup) {
        return Ok(());
    }
    host_user(input).map_or(Ok(()), |owner| cgroup.give_to(owner, input.request.rootless))
}

/// The container's user as the host knows it.
fn host_user(input: &Input<'_>) -> Option<u32> {
    let uid = input.document.process.as_ref().map_or(0, |process| process.user.uid);
    if input.namespaces.has(libc::CLONE_NEWUSER) {
        cgroup::owner::on_host(uid, &input.document.linux.uid_mappings)
    } else {
        Some(uid)
    }
}

impl Created {
    /// Lets the process go on: to wait for `runtime start`, or to its program.
    ///
    /// # Errors
    /// It has died.
    pub fn release(&self) -> Result<()> {
        self.channel.proceed()
    }

    /// Lets the process execute its program, unless it is at it already, and returns once that runs.
    ///
    /// # Errors
    /// The program could not be executed.
    pub fn launch(&self) -> Result<()> {
        if self.asks {
            self.channel.proceed()?;
        }
        loop {
            match self.channel.receive()? {
                Report::Closed => return Ok(()),
                Report::Failed(err) => return Err(err),
                _ => {}
            }
        }
    }
}
