//! `checkpoint`.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use sys::clone::CloneOptions;

use super::delete::destroy;
use super::notify_socket;
use crate::cli::checkpoint::Checkpoint;
use crate::container::directory::Directory;
use crate::container::state::State;
use crate::container::status::Status;
use crate::criu::external;
use crate::criu::options::{self, Options, field};
use crate::criu::service::{Feature, Kind, Service, explain};
use crate::rootfs::mount;
use crate::spec::load;

/// Writes the container's processes into images, and deletes it unless it is to run on.
///
/// # Errors
/// A fault of kind `WrongState` unless it runs; CRIU's failure, after which it runs on.
pub fn checkpoint(directory: &Directory, flags: &Checkpoint) -> Result<()> {
    directory.lock()?;
    let state = directory.state()?;
    match Status::of(directory, &state)? {
        Status::Running | Status::Paused => {}
        status => fault!(WrongState, "container cannot be checkpointed in {status} state"),
    }
    if state.shared_root.is_some() {
        fault!(Unsupported, "a container without a mount namespace cannot be checkpointed");
    }
    let pid = state.init.context("no process")?.pid;
    let mut options = Options::new(&flags.images, &flags.shared, "dump.log", &state)?;
    fill(&mut options, flags, &state, pid)?;
    if !flags.pre_dump {
        name_what_stays(&mut options, directory, &state, pid)?;
    }
    let kind = if flags.pre_dump { Kind::PreDump } else { Kind::Dump };
    let service = Service::start(CloneOptions::default(), || Ok(()))?;
    let asked =
        service.ask(kind, &options.message, |notice| match (notice.script.as_str(), flags.status_fd) {
            ("status-ready", fd) => {
                // From now on CRIU serves pages for as long as somebody asks for them, and `delete --force` is not to
                // wait for that.
                directory.unlock()?;
                fd.map_or(Ok(()), announce)
            }
            _ => Ok(()),
        });
    directory.lock()?;
    // After a pre-dump CRIU waits for the dump itself, which another of its processes is going to do.
    let done = asked.and_then(|_| if flags.pre_dump { Ok(()) } else { service.finish() });
    done.map_err(|err| explain(err, &options.log))
        .with_context(|| format!("checkpoint container {}", state.id))?;
    if flags.leave_running || flags.pre_dump {
        return Ok(());
    }
    // It may have been deleted while pages were served.
    directory.load()?.map_or(Ok(()), |state| destroy(directory, &state))
}

fn fill(options: &mut Options, flags: &Checkpoint, state: &State, pid: i32) -> Result<()> {
    let message = &mut options.message;
    message
        .number(field::PID, pid.into())
        .text(field::ROOT, state.rootfs.as_os_str().as_encoded_bytes())
        .flag(field::LEAVE_RUNNING, flags.leave_running)
        .flag(field::TCP_SKIP_IN_FLIGHT, flags.tcp_skip_in_flight)
        .flag(field::LINK_REMAP, flags.link_remap);
    if let Some(cgroup) = &state.cgroup
        && let Some(freezer) = cgroup.with_controller("freezer").or_else(|| cgroup.unified())
    {
        message.text(field::FREEZE_CGROUP, freezer.path.as_os_str().as_encoded_bytes());
    }
    if let Some(server) = &flags.page_server {
        let (address, port) = options::page_server(server)?;
        message.nest(field::PAGE_SERVER, |server| {
            server.text(1, address).number(2, port.into());
        });
    }
    if let Some(parent) = &flags.parent_path {
        options::check_parent(&options.images, parent)?;
        options.message.text(field::PARENT_IMG, parent.as_os_str().as_encoded_bytes());
    }
    if flags.parent_path.is_some() || flags.pre_dump {
        Service::require("--pre-dump", Feature::MemTrack)?;
        options.message.flag(field::TRACK_MEM, true);
    }
    if flags.shared.lazy_pages {
        Service::require("--lazy-pages", Feature::LazyPages)?;
    }
    if let Some(fd) = flags.status_fd {
        check_writable(fd)?;
    }
    Ok(())
}

/// What the images leave out.
fn name_what_stays(options: &mut Options, directory: &Directory, state: &State, pid: i32) -> Result<()> {
    // Changed since, it would be another container's; CRIU refuses what does not fit the processes.
    let mut document = load::document(&state.bundle, state.config.as_deref())?;
    load::strip_rootfs(&mut document, &state.rootfs);
    let notify = notify_socket::directory(directory);
    if notify.exists() {
        document.mounts.push(notify_socket::mount(notify));
    }
    let mounts = mount::plan(&document.mounts, &state.bundle, None)?;
    let own_cgroups = state.namespaces & libc::CLONE_NEWCGROUP != 0;
    let cgroups = state.cgroup.as_ref().filter(|_| !own_cgroups);
    external::dumped_namespaces(&mut options.message, &document)?;
    external::dumped_mounts(&mut options.message, &document, (&state.rootfs, pid), &mounts, cgroups)?;
    external::dumped_streams(&mut options.message, &options.images, pid)
}

/// The caller's descriptor under that number.
fn caller_fd(fd: i32) -> Result<std::fs::File> {
    let path = format!("/proc/self/fd/{fd}");
    // A new open file of the same pipe or file, so that ours can be closed.
    std::fs::OpenOptions::new().write(true).open(&path).with_context(|| format!("--status-fd {fd}"))
}

fn check_writable(fd: i32) -> Result<()> {
    let file = caller_fd(fd)?;
    let flags =
        fcntl(&file, FcntlArg::F_GETFL).with_context(|| format!("--status-fd {}", file.as_raw_fd()))?;
    if flags & OFlag::O_ACCMODE.bits() == libc::O_RDONLY {
        fault!(Usage, "--status-fd {fd}: not writable");
    }
    Ok(())
}

fn announce(fd: i32) -> Result<()> {
    use std::io::Write as _;
    caller_fd(fd)?.write_all(&[0]).with_context(|| format!("write to --status-fd {fd}"))?;
    // Who reads from it waits for its end.
    sys::clone::forget_fd(fd);
    Ok(())
}
