//! `restore`: a new container around the processes of a checkpoint.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contracts::process::Process;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use sys::clone::{CloneOptions, Cloned};
use sys::path::Root;

use super::made::Made;
use super::{notify_socket, pid_file};
use crate::cgroup::{self, Cgroup};
use crate::cli::{self, checkpoint::Restore};
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view;
use crate::criu::external;
use crate::criu::options::{Options, field};
use crate::criu::service::{Kind, Notice, Service, explain};
use crate::hooks::{self, Environment};
use crate::init::channel::{self, Report};
use crate::namespace::Namespaces;
use crate::rootfs::mount::{self, Planned};
use crate::rootfs::options::Propagation;
use crate::rootfs::propagation;
use crate::spec::document::Document;
use crate::spec::{check, load};
use crate::{console, seccomp};

/// What is asked for.
#[derive(Debug)]
pub struct Request<'a> {
    /// `--root`.
    pub root: &'a Path,
    /// The flags of `restore`.
    pub flags: &'a Restore,
    /// `--rootless`.
    pub rootless: bool,
    /// Who makes its cgroup.
    pub manager: cli::CgroupManager,
}

/// A container whose processes run again.
#[derive(Debug)]
pub struct Restored {
    /// Its directory, locked.
    pub directory: Directory,
    /// Its state, saved.
    pub state: State,
    /// Its first process, a child of ours.
    pub pidfd: OwnedFd,
    /// The terminal's master end, where nobody else has got it.
    pub terminal: Option<OwnedFd>,
}

/// Restores a container.
///
/// # Errors
/// Any; then nothing of it is left, and the images are as they were.
pub fn restore(request: &Request<'_>) -> Result<Restored> {
    let flags = request.flags;
    let bundle = load::bundle_path(&flags.bundle)?;
    let mut document = load::document(&bundle, flags.config.as_deref())?;
    let namespaces = Namespaces::read(&document.linux.namespaces)?;
    check::document(&document, &namespaces)?;
    let terminal = document.process.as_ref().is_some_and(|process| process.terminal == Some(true));
    console::check(terminal, flags.console_socket.as_deref(), flags.detach)?;
    let rootfs = load::rootfs_path(&mut document, &bundle)?;
    let directory = Directory::reserve(request.root, &flags.id)?;
    let mut made = Made::default();
    let input =
        Input { request, document: &document, bundle: &bundle, rootfs: &rootfs, namespaces: &namespaces };
    match make(&input, &directory, &mut made) {
        Ok(state) => {
            let Some(pidfd) = made.pidfd else { bail!("no process was restored") };
            Ok(Restored { directory, state, pidfd, terminal: made.terminal })
        }
        Err(err) => {
            made.undo(&directory);
            Err(err.context(format!("restore container {}", flags.id)))
        }
    }
}

struct Input<'a> {
    request: &'a Request<'a>,
    document: &'a Document,
    bundle: &'a Path,
    rootfs: &'a Path,
    namespaces: &'a Namespaces,
}

fn make(input: &Input<'_>, directory: &Directory, made: &mut Made) -> Result<State> {
    let (document, flags) = (input.document, input.request.flags);
    let mut state = first_state(input)?;
    let mounts = mount::plan(&document.mounts, input.bundle, Some(input.rootfs))?;
    let mut options = fill(input, &state)?;
    let cgroup = make_cgroup(input, directory, &mut state)?;
    made.cgroup.clone_from(&state.cgroup);
    if let Some(profile) = &document.linux.seccomp {
        directory.write_bytes("seccomp.bpf", &seccomp::compile(profile)?.encode())?;
    }
    make_mount_points(input.rootfs, &mounts)?;
    let tasks = cgroup.tasks()?;
    // Not the directory itself: what is in it has to be seen.
    let place = directory.file_path("root");
    fs::create_dir(&place).with_context(|| format!("make {}", place.display()))?;
    let start = CloneOptions { namespaces: libc::CLONE_NEWNS, cgroup: cgroup.clone_target(), sibling: false };
    let service = Service::start(start, || {
        cgroup::join(&tasks).context("join the container's cgroup")?;
        mount_root(input.rootfs, &place)
    })?;
    options.reopen(&service)?;
    options.message.text(field::ROOT, place.as_os_str().as_encoded_bytes());
    let own_cgroups = input.namespaces.has(libc::CLONE_NEWCGROUP);
    let cgroups = state.cgroup.clone().filter(|_| !own_cgroups);
    notify_socket::prepare(directory)?;
    let places = (input.rootfs, directory);
    external::restored_mounts(&mut options.message, document, places, &mounts, cgroups.as_ref())?;
    add_cgroups(&mut options, &service)?;

    let asked = service
        .ask(Kind::Restore, &options.message, |notice| follow(notice, input, directory, (&mut state, made)));
    asked.and_then(|_| service.finish()).map_err(|err| explain(err, &options.log))?;
    let _ = fs::remove_dir(&place);
    if let Some(path) = &flags.pid_file {
        pid_file::write(path, state.init.context("criu named no process")?.pid)?;
    }
    Ok(state)
}

/// All that does not need the container's cgroup.
fn fill(input: &Input<'_>, state: &State) -> Result<Options> {
    let flags = input.request.flags;
    let mut options = Options::new(&flags.images, &flags.shared, "restore.log", state)?;
    options
        .message
        .flag(field::EVASIVE_DEVICES, true)
        // The first process becomes our child, so that we can wait for it.
        .flag(field::RST_SIBLING, true)
        .flag(field::TCP_CLOSE, flags.tcp_close);
    for (number, value) in
        [(field::LSM_PROFILE, &flags.lsm_profile), (field::LSM_MOUNT_CONTEXT, &flags.lsm_mount_context)]
    {
        if let Some(value) = value {
            options.message.text(number, value);
        }
    }
    for copy in external::restored_streams(&mut options.message, &options.images)? {
        options.hold(copy)?;
    }
    external::restored_namespaces(&mut options, input.document)?;
    Ok(options)
}

fn first_state(input: &Input<'_>) -> Result<State> {
    let flags = input.request.flags;
    Ok(State {
        id: flags.id.clone(),
        bundle: input.bundle.to_owned(),
        config: flags.config.as_deref().map(load::absolute).transpose()?,
        rootfs: input.rootfs.to_owned(),
        ..State::of(input.document, input.namespaces)
    })
}

fn make_cgroup(input: &Input<'_>, directory: &Directory, state: &mut State) -> Result<Cgroup> {
    let request = cgroup::Request {
        path: input.document.linux.cgroups_path.as_deref(),
        id: &input.request.flags.id,
        resources: input.document.linux.resources.as_ref(),
        rootless: input.request.rootless,
        annotations: Some(&input.document.annotations),
        systemd: input.request.manager == cli::CgroupManager::Systemd,
        disabled: input.request.manager == cli::CgroupManager::Disabled,
    };
    let cgroup = Cgroup::create(&request, |location| {
        state.cgroup = Some(location.clone());
        directory.save(state)
    })?;
    state.cgroup = Some(cgroup.location().clone());
    Ok(cgroup)
}

/// Tells CRIU where its own process is now: the processes go where it is, whatever their cgroups were called.
fn add_cgroups(options: &mut Options, service: &Service) -> Result<()> {
    let text = service.read_proc("cgroup")?;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        for controller in controllers.split(',') {
            options.message.nest(field::CG_ROOT, |root| {
                root.text(1, controller).text(2, path);
            });
        }
    }
    Ok(())
}

fn follow(
    notice: Notice,
    input: &Input<'_>,
    directory: &Directory,
    (state, made): (&mut State, &mut Made),
) -> Result<()> {
    let hooks = &input.document.hooks;
    match (notice.script.as_str(), notice.fd) {
        ("setup-namespaces", _) if !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty() => {
            let stdin = view::for_hook(state, Status::Creating, notice.pid);
            hooks::run("prestart", &hooks.prestart, &stdin, Environment::Ours)?;
            hooks::run("createRuntime", &hooks.create_runtime, &stdin, Environment::Ours)
        }
        ("post-restore", _) => {
            // Our child, and stopped until we answer.
            made.pidfd = Some(sys::pidfd::open(notice.pid).context("open the restored process")?);
            state.complete(input.document, Process::of(notice.pid).context("look at the restored process")?);
            if in_another("time", notice.pid) {
                // CRIU restores the clocks by a time namespace, which `exec` has to join.
                state.namespaces |= sys::clone::CLONE_NEWTIME;
            }
            directory.save(state)?;
            directory.publish(state)
        }
        ("orphan-pts-master", Some(master)) => match &input.request.flags.console_socket {
            Some(socket) => console::send(socket, master.as_fd()),
            None => {
                made.terminal = Some(master);
                Ok(())
            }
        },
        _ => Ok(()),
    }
}

fn in_another(kind: &str, pid: i32) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
    of("self") != of(&pid.to_string())
}

/// CRIU wants a root that is a mount, below one that nothing covers. It is mounted in the container's own directory,
/// in a mount namespace that goes with CRIU: whoever is killed, nothing is left mounted.
fn mount_root(rootfs: &Path, place: &Path) -> Result<()> {
    let host = File::open("/").context("open /")?;
    let slave = Propagation { kind: libc::MS_SLAVE, recursive: true };
    propagation::set(host.as_fd(), slave).context("set the propagation of the mount namespace")?;
    let source = File::open(rootfs).with_context(|| format!("open {}", rootfs.display()))?;
    let tree = sys::mount::copy_tree(source.as_fd(), Path::new(""), true, false)
        .with_context(|| format!("mount root file system {}", rootfs.display()))?;
    let target = File::open(place).with_context(|| format!("open {}", place.display()))?;
    sys::mount::attach(tree.as_fd(), target.as_fd()).with_context(|| format!("mount {}", place.display()))
}

/// Makes the places to mount on that `create` would have made, in a process whose mounts go with it.
fn make_mount_points(rootfs: &Path, mounts: &[Planned<'_>]) -> Result<()> {
    let (listen, tell) = channel::pair()?;
    let options = CloneOptions { namespaces: libc::CLONE_NEWNS, ..CloneOptions::default() };
    match sys::clone::clone(options).context("make a process for the mount points")? {
        Cloned::Child => {
            drop(listen);
            let report = match mount_points(rootfs, mounts) {
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
                _ => bail!("the process that makes the mount points was killed"),
            }
        }
    }
}

fn mount_points(rootfs: &Path, mounts: &[Planned<'_>]) -> Result<()> {
    let slave = Propagation { kind: libc::MS_SLAVE, recursive: true };
    let root = Root::from(propagation::isolate(rootfs, slave, None)?);
    // What is in a file system of the container's own comes with its images, or with the file system.
    let fresh: Vec<&PathBuf> =
        mounts.iter().filter(|one| !one.options.bind).map(|one| &one.mount.destination).collect();
    for planned in mounts.iter().filter(|planned| !planned.options.remount) {
        let place = &planned.mount.destination;
        if fresh.iter().any(|above| place != *above && place.starts_with(above)) {
            continue;
        }
        if planned.options.bind {
            planned.perform(&root, None)?;
        } else {
            planned.directory(&root).with_context(|| format!("make {}", place.display()))?;
        }
    }
    Ok(())
}
