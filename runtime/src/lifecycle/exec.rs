//! `exec`.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use nix::libc;
use sys::clone::{CloneOptions, Cloned};

use super::beside::{adopt, introduce};
use super::descriptors::Descriptors;
use super::pid_file;
use crate::cgroup::{Cgroup, Location, Member};
use crate::cli;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::container::view::View;
use crate::init::channel::{self, Report, RuntimeEnd};
use crate::init::steps::Last;
use crate::security::procfs::Procfs;
use crate::spec::process::{Capabilities, ConsoleSize, Process};
use crate::spec::{check, load};
use crate::{console, init, log, own_exe, seccomp};

/// A process that runs in the container.
#[derive(Debug)]
pub struct Running {
    /// The process, our child.
    pub pidfd: OwnedFd,
    /// The terminal's master end, where nobody else has got it.
    pub terminal: Option<OwnedFd>,
}

/// Runs a process in the container of `directory`.
///
/// # Errors
/// A fault of kind `WrongState` unless it runs; whatever keeps the program from being executed.
pub fn exec(directory: &Directory, flags: &cli::Exec) -> Result<Running> {
    let state = directory.state()?;
    match Status::of(directory, &state)? {
        Status::Running | Status::Created => {}
        Status::Paused if flags.ignore_paused => {}
        Status::Paused => {
            fault!(WrongState, "cannot exec in a paused container (use --ignore-paused to override)")
        }
        Status::Stopped => fault!(WrongState, "cannot exec in a stopped container"),
        Status::Creating => fault!(WrongState, "cannot exec in a container that is being created"),
    }
    let process = process(&state, flags)?;
    check::process(&process)?;
    console::check(process.terminal == Some(true), flags.console_socket.as_deref(), flags.detach)?;
    let Some(init) = state.init.context("no process")?.open().context("open the container's process")? else {
        fault!(WrongState, "cannot exec in a stopped container")
    };
    let filter = if state.filtered { Some(filter(directory)?) } else { None };
    let location = state.cgroup.clone().unwrap_or_default().below(&flags.cgroup)?;
    let cgroup = location.cgroup().or_else(|err| cgroup_elsewhere(&state, &flags.cgroup).ok_or(err));
    let cgroup = cgroup.context("open the container's cgroup")?;
    let descriptors = Descriptors::read(flags.preserve_fds, false)?;
    let watched = is_watched(directory, &state, &process)?;
    let input = Input { state: &state, flags, process: &process, filter, init, cgroup, descriptors, watched };
    let running = spawn(&input);
    // Not given back piece by piece: every piece's page is shared with the new process, and would be copied first.
    std::mem::forget(input);
    std::mem::forget(process);
    std::mem::forget(state);
    running
}

/// Whether processes of the container can have `CAP_SYS_PTRACE` over those of the host's user namespace, by its own
/// configuration or by an `exec`, which leaves a mark.
fn is_watched(directory: &Directory, state: &State, process: &Process) -> Result<bool> {
    if state.namespaces & libc::CLONE_NEWPID == 0 || state.namespaces & libc::CLONE_NEWUSER != 0 {
        return Ok(false);
    }
    const MARK: &str = "tracer";
    let traces = |process: &Process| {
        let sets = process.capabilities.as_ref();
        let lists = sets.map(|sets| [&sets.bounding, &sets.effective, &sets.permitted, &sets.ambient]);
        lists.into_iter().flatten().flatten().any(|name| name.ends_with("SYS_PTRACE"))
    };
    if traces(&state.process) || directory.file_path(MARK).exists() {
        return Ok(true);
    }
    if traces(process) {
        directory.write_bytes(MARK, b"")?;
    }
    Ok(false)
}

fn filter(directory: &Directory) -> Result<seccomp::Program> {
    let path = directory.file_path("seccomp.bpf");
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    seccomp::Program::decode(&bytes).with_context(|| path.display().to_string())
}

struct Input<'a> {
    state: &'a State,
    flags: &'a cli::Exec,
    process: &'a Process,
    filter: Option<seccomp::Program>,
    init: OwnedFd,
    cgroup: Cgroup,
    descriptors: Descriptors,
    watched: bool,
}

fn spawn(input: &Input<'_>) -> Result<Running> {
    let proc = Procfs::open()?;
    let tasks = input.cgroup.tasks()?;
    let (ours, theirs) = channel::pair()?;
    // From the moment that the child is in the container's PID namespace, the container's processes must not look
    // into it (CVE-2016-9962).
    nix::sys::prctl::set_dumpable(false).context("become undumpable")?;
    let namespaces = input.state.namespaces;
    let mut birth = if input.watched { 0 } else { namespaces & libc::CLONE_NEWPID };
    if !nix::unistd::geteuid().is_root() {
        // The rights over the PID namespace are in the container's user namespace.
        birth |= namespaces & libc::CLONE_NEWUSER;
    }
    if birth != 0 {
        match sys::namespace::join(input.init.as_fd(), birth) {
            // It is about to end.
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => {
                fault!(WrongState, "cannot exec in a stopped container")
            }
            other => other.context("join the container's PID namespace")?,
        }
    }
    match clone_into(&input.cgroup, input.state, &proc)? {
        Cloned::Child => {
            drop(ours);
            own_exe::let_go_of_mount();
            let last = Last {
                process: input.process,
                filter: input.filter.as_ref(),
                own_program: None,
                proc: &proc,
                channel: &theirs,
                asks: asks(input),
                notifies: false,
                descriptors: input.descriptors,
            };
            let plan = init::exec::Plan {
                last,
                init: &input.init,
                namespaces: namespaces & !birth,
                watched: input.watched,
                shared_root: input.state.shared_root.map(|id| (input.state.rootfs.as_path(), id)),
                tasks: &tasks,
                domain: (input.state.personality.as_ref(), input.state.memory_policy.as_ref()),
                keyring: format!("_ses.{}", input.state.id),
            };
            init::exec::run(&plan, &theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            log::debug(format_args!("process {pid} in container {}", input.state.id));
            drop(theirs);
            let mut running = Running { pidfd, terminal: None };
            converse(input, &ours, pid, &mut running).inspect_err(|_| {
                let _ = sys::pidfd::send_signal(&running.pidfd, libc::SIGKILL);
            })?;
            Ok(running)
        }
    }
}

/// Whether [`converse`] has anything to do before the program may run.
fn asks(input: &Input<'_>) -> bool {
    input.flags.pidfd_socket.is_some() || input.flags.pid_file.is_some()
}

fn clone_into(cgroup: &Cgroup, state: &State, proc: &Procfs) -> Result<Cloned> {
    let context = "make the process";
    let options = CloneOptions { cgroup: cgroup.clone_target(), ..CloneOptions::default() };
    match sys::clone::clone(options) {
        // On cgroup v2 a cgroup with children has no processes of its own: a container that runs systemd has moved
        // its first process into one, and there is room.
        Err(err) if err.raw_os_error() == Some(libc::EBUSY) => {
            let path = cgroup_of_init(state, proc).context(context).context(err)?;
            let directory = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
            sys::clone::clone(CloneOptions { cgroup: Some(directory.as_fd()), ..CloneOptions::default() })
                .context(context)
        }
        other => other.context(context),
    }
}

/// Where the first process is, if its own cgroup is gone: it has been moved, and who did that removed what was empty.
fn cgroup_elsewhere(state: &State, asked: &[String]) -> Option<Cgroup> {
    let container = state.cgroup.as_ref().filter(|location| location.is_v2() && asked.is_empty())?;
    let member = container.unified().filter(|member| !member.path.exists())?;
    let text = Procfs::open().ok()?.read(&format!("{}/cgroup", state.init?.pid)).ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = member.path.ancestors().map(|top| top.join(own)).find(|path| path.is_dir())?;
    let dirs = vec![Member { path, ..member.clone() }];
    Location { dirs, ..Location::default() }.cgroup().ok()
}

fn cgroup_of_init(state: &State, proc: &Procfs) -> Result<PathBuf> {
    let pid = state.init.map_or(0, |init| init.pid);
    let text = proc.read(&format!("{pid}/cgroup"))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/")).context("no unified cgroup")?;
    let container = state.cgroup.as_ref().and_then(Location::unified).context("no unified cgroup")?;
    // The hierarchy may be mounted anywhere: it is at the ancestor below which the process's path is in the container.
    let found = container
        .path
        .ancestors()
        .map(|top| top.join(own))
        .find(|path| path.starts_with(&container.path) && path.is_dir());
    found.with_context(|| format!("cgroup {own} of the first process is not in the container"))
}

fn converse(input: &Input<'_>, channel: &RuntimeEnd, mut pid: i32, running: &mut Running) -> Result<()> {
    let flags = input.flags;
    own_exe::let_go_of_mount();
    loop {
        match channel.receive()? {
            Report::Terminal(master) => match &flags.console_socket {
                Some(socket) => console::send(socket, master.as_fd())?,
                None => running.terminal = Some(master),
            },
            Report::Listener(fd) => {
                let view = View::new(input.state, Status::Running);
                introduce(input.filter.as_ref(), &view, pid, &fd)?;
                channel.proceed()?;
            }
            Report::Ready if !asks(input) => {}
            Report::Ready => {
                if let Some(socket) = &flags.pidfd_socket {
                    console::send(socket, running.pidfd.as_fd())?;
                }
                if let Some(path) = &flags.pid_file {
                    pid_file::write(path, pid)?;
                }
                channel.proceed()?;
            }
            Report::Closed => return Ok(()),
            Report::Failed(err) => return Err(err),
            Report::Cloned(sibling) => {
                adopt(&mut running.pidfd, sibling)?;
                pid = sibling;
                channel.proceed()?;
            }
            Report::Hooks => bail!("the process sent a wrong packet"),
        }
    }
}

/// The process: of `--process`, or the container's own with what the flags say.
fn process(state: &State, flags: &cli::Exec) -> Result<Process> {
    if let Some(path) = &flags.process {
        return load::process(path);
    }
    let mut process = state.process.clone();
    if flags.command.is_empty() {
        fault!(Usage, "process args cannot be empty: exec ID COMMAND, or --process FILE");
    }
    process.args.clone_from(&flags.command);
    process.terminal = Some(flags.tty);
    // The container's terminal has its size, a new one that of whoever opens it.
    process.console_size = None::<ConsoleSize>;
    process.env.extend(flags.env.iter().cloned());
    if let Some(cwd) = &flags.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &flags.user {
        (process.user.uid, process.user.gid) = parse_user(user, process.user.gid)?;
    }
    process.user.additional_gids.extend(&flags.additional_gids);
    if let Some(label) = &flags.process_label {
        process.selinux_label.clone_from(label);
    }
    if let Some(profile) = &flags.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    process.no_new_privileges |= flags.no_new_privs;
    add_capabilities(process.capabilities.get_or_insert_default(), &flags.cap);
    Ok(process)
}

/// Bounding, effective and permitted; never inheritable (CVE-2022-29162), and ambient only as far as the container's
/// own are inheritable, as runc.
fn add_capabilities(sets: &mut Capabilities, names: &[String]) {
    for name in names {
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            if !set.contains(name) {
                set.push(name.clone());
            }
        }
        if sets.inheritable.contains(name) && !sets.ambient.contains(name) {
            sets.ambient.push(name.clone());
        }
    }
}

/// `UID[:GID]`. Numbers only: a name would have to be looked up in the container's files (CVE-2016-3697).
pub fn parse_user(text: &str, gid: u32) -> Result<(u32, u32)> {
    let number = |part: &str| -> Result<u32> {
        // No sign, and not the number by which the kernel means "unchanged" (CVE-2026-30892 was such a parser).
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match part.parse::<u32>() {
            Ok(number) if digits && number != u32::MAX => Ok(number),
            _ => fault!(Usage, "parsing {part:?} of --user {text:?}: not a number between 0 and 4294967294"),
        }
    };
    match text.split_once(':') {
        Some((uid, group)) => Ok((number(uid)?, number(group)?)),
        None => Ok((number(text)?, gid)),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("1", 5).unwrap(), (1, 5));
        assert_eq!(parse_user("0", 5).unwrap(), (0, 5));
        assert_eq!(parse_user("01", 5).unwrap(), (1, 5));
        assert_eq!(parse_user("1:1", 5).unwrap(), (1, 1));
        for wrong in ["", ":1", "1:", "-1", "+1", "4294967295", "4294967296", "root", "1:x", "1:1:1", " 1"] {
            assert!(parse_user(wrong, 0).is_err(), "{wrong}");
        }
    }
}
