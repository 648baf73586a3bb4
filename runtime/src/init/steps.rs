//! The last steps that `create` and `exec` share: session, terminal, identity, filter, program.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::libc;
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Gid, Uid, fchown, setsid};
use sys::path::Root;

use super::channel::{ProcessEnd, Report};
use super::program::{self, Program, Unfinished};
use super::wait::Waiting;
use crate::lifecycle::descriptors::Descriptors;
use crate::rootfs::console;
use crate::security::capabilities::{self, Masks, SYS_ADMIN};
use crate::security::procfs::Procfs;
use crate::security::{identity, labels, limits, scheduling};
use crate::spec::process::Process;
use crate::{own_exe, seccomp};

/// What the last steps need.
#[derive(Debug)]
pub struct Last<'a> {
    /// The process to become.
    pub process: &'a Process,
    /// Its system call filter.
    pub filter: Option<&'a seccomp::Program>,
    /// Our program as a file that cannot be written to, where this process is still to go on from it (`own_exe`).
    pub own_program: Option<&'a OwnedFd>,
    /// The trusted procfs.
    pub proc: &'a Procfs,
    /// The runtime.
    pub channel: &'a ProcessEnd,
    /// Whether the runtime has anything to do before the program may run.
    pub asks: bool,
    /// Whether the program has a socket to say on that it is ready.
    pub notifies: bool,
    /// Descriptors from 3 on that stay open.
    pub descriptors: Descriptors,
}

/// Leaves the caller's session: its terminal's signals are not for the container.
pub fn new_session() {
    // Fails only for a process group leader, which a new process is not.
    let _ = setsid();
}

/// Standard input and output: a new terminal, whose other end goes to the runtime, or what was inherited, which then
/// becomes the user's.
///
/// # Errors
/// No devpts in the container, or the runtime is gone.
pub fn standard_streams(
    process: &Process,
    channel: &ProcessEnd,
    root: &Root,
    bind_console: bool,
) -> Result<()> {
    if process.terminal != Some(true) {
        return give_streams(process.user.uid);
    }
    let terminal = console::open(root, process.user.uid, process.console_size)?;
    if bind_console {
        console::bind(root, terminal.slave.as_fd())?;
    }
    channel.tell(&Report::Terminal(terminal.master))?;
    console::take(terminal.slave.as_fd())
}

/// A user who is not root could not open `/dev/stdout` again if the pipe behind it belonged to root.
fn give_streams(uid: u32) -> Result<()> {
    if uid == 0 {
        return Ok(());
    }
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
        let Ok(info) = fstat(fd) else { continue };
        // Devices, such as /dev/null, and files are the host's; only pipes and sockets were made for us.
        let kind = sys::path::file_type(info.st_mode);
        let ours = matches!(kind, nix::sys::stat::SFlag::S_IFIFO | nix::sys::stat::SFlag::S_IFSOCK);
        if ours && info.st_uid != uid {
            // Not ours to give in a user namespace: then the user has to live with it.
            let _ = fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>);
        }
    }
    Ok(())
}

/// From root with a set-up container to the program. `waiting` is how a created container waits for `start`;
/// `before`, if anything, is done just before the program and told its
/// environment.
///
/// # Errors
/// Any; the caller reports it.
pub fn become_program(
    last: &Last<'_>,
    root: &Root,
    waiting: Option<Waiting>,
    before: Option<impl FnOnce(&[CString]) -> Result<()>>,
) -> Result<Infallible> {
    let process = last.process;
    labels::apply(last.proc, &process.apparmor_profile, &process.selinux_label)?;
    if let Some(scheduler) = &process.scheduler {
        scheduling::set_scheduler(scheduler)?;
    }
    if let Some(priority) = &process.io_priority {
        scheduling::set_io_priority(priority)?;
    }
    umask(Mode::from_bits_truncate(process.user.umask.unwrap_or(0o022)));
    if process.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().context("set no_new_privs")?;
    }
    // A directory that only root may enter, and one that only the user may enter, both work.
    let entered = program::enter_directory(root, &process.cwd);
    let masks = match &process.capabilities {
        Some(wanted) => Masks::read(wanted),
        None => Masks::default(),
    };
    let masks = capabilities::prepare(masks)?;
    identity::switch(last.proc, &process.user)?;
    // Without no_new_privs the kernel lets only CAP_SYS_ADMIN install a filter, and nobody else change the file of a process.
    let installs = last.filter.is_some() && !process.no_new_privileges;
    let extra = if installs || last.own_program.is_some() { SYS_ADMIN } else { 0 };
    let own = sys::capability::get().context("read own capabilities")?.permitted;
    capabilities::finish(masks, extra & own)?;
    if entered.is_err() {
        program::enter_directory(root, &process.cwd)?;
    }
    let program = Program::find(process, root, last.descriptors.sockets, last.notifies)?;

    let notifies = last.filter.filter(|filter| filter.listener.is_some());
    if let Some(filter) = notifies {
        // Its agent is the runtime's to introduce, so it cannot wait for `start`.
        last.own_program.map_or(Ok(()), own_exe::go_on_from)?;
        install(filter, last.channel)?;
    }
    last.channel.tell(&Report::Ready)?;
    // Where nothing comes between, the file is changed with the last calls of all.
    let at_last = last.own_program.filter(|_| notifies.is_none() && waiting.is_none() && before.is_none());
    // While the runtime does its last part, and not when `start` waits.
    let now = last.own_program.filter(|_| notifies.is_none() && at_last.is_none());
    let protected = now.map_or(Ok(()), own_exe::go_on_from);
    sys::clone::close_on_exec_from(3 + last.descriptors.all).context("mark descriptors to be closed")?;
    sys::clone::default_signals().context("reset signals")?;
    if last.asks {
        last.channel.wait()?;
    }
    limits::apply_last(process)?;
    if let Some(own_program) = at_last {
        let capabilities = (extra != 0).then(|| capabilities::without_extra(masks));
        let unfinished = Unfinished { own_program: own_program.as_fd(), filter: last.filter, capabilities };
        // Returns where it is not possible.
        let _ = last.channel.make_or_tell(program.last_calls(&unfinished));
        own_exe::go_on_from(own_program)?;
    }
    let confine = || -> Result<()> {
        if let (Some(filter), None) = (last.filter, notifies) {
            install(filter, last.channel)?;
        }
        if extra != 0 {
            capabilities::give_up_extra(masks)?;
        }
        Ok(())
    };
    if waiting.is_some() {
        sys::clone::end_when_asked().context("handle signals")?;
    }
    // As late as can be, for from here on the profile has to allow what we do; but the kernel takes its time, and `start`
    // need not wait for it where all that is left is to read the word for it.
    let early = waiting.is_some()
        && before.is_none()
        && last.filter.is_none_or(|filter| filter.always_allows(libc::SYS_read));
    let confined = early.then(confine);
    let go = || -> Result<Infallible> {
        // Why it failed is for `start` to say: nobody else listens.
        protected?;
        confined.unwrap_or_else(confine)?;
        // A program of the container's too, and no more is allowed to it, as under runc.
        before.map_or(Ok(()), |before| before(program.env()))?;
        program.execute()
    };
    let Some(mut waiting) = waiting else { return go() };
    // What else is open is the caller's, who may wait for its end, or was for making the container.
    waiting.close_others_from(3 + last.descriptors.all)?;
    let Err(err) = waiting.wait().and_then(|()| go());
    // Not returned to those who own what has been closed.
    waiting.answer(&err.context("container init"));
    sys::clone::exit_now(1)
}

fn install(filter: &seccomp::Program, channel: &ProcessEnd) -> Result<()> {
    match filter.install().context(seccomp::INSTALL)? {
        Some(listener) => channel.ask(&Report::Listener(listener)),
        None => Ok(()),
    }
}
