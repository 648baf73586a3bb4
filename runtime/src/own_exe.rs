//! Keeps the container from writing to the runtime's own program (CVE-2019-5736).
//!
//! An image whose entry point is `#!/proc/self/exe` makes us execute ourselves inside the container, where another
//! of its processes can open our program through `/proc/PID/exe` and, being root, write to it. So before anything of
//! the container runs we see to it that this link leads where nothing can be written to: to our own file in a detached
//! read-only mount, which we go on from as we are, or, where the kernel does not let us, execute again; or to a sealed
//! copy in memory where we may not mount.
//!
//! Where nobody in the container can look at its first process before that executes the program, it is that process
//! that goes on from there, just before ([`can_wait`]), mostly as the first of its last calls ([`sys::last_calls`]); the
//! runtime finds the file while it waits for the process.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use sys::mount::{Attributes, attr};

use crate::namespace::Namespaces;
use crate::spec::document::Document;

const OWN_PROGRAM: &str = "/proc/self/exe";

/// The mount that we go on from, until somebody has the time to let go of it.
static MOUNT: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// [`protect`] before the command line is parsed, which would otherwise be done twice. Only a guess by the look of the
/// arguments: the verbs that need it ask again, and then its errors are reported.
pub fn protect_early() {
    let wanted = |arg: std::ffi::OsString| {
        arg == "exec" || (arg == "run" || arg == "create") && !a_process_can_go_on()
    };
    if sys::start::arguments().into_iter().skip(1).any(wanted) {
        let _ = protect();
    }
}

/// Whether a container's first process can go on from another file by itself: it cannot execute ours again.
fn a_process_can_go_on() -> bool {
    nix::unistd::geteuid().is_root() && sys::exe_file::is_possible()
}

/// Whether only the first process of a new container has to be protected, and only when it is ready: until then nobody who
/// may look at it is in its PID namespace. Those who `exec` into a created container would need `CAP_SYS_PTRACE`, for it is
/// not dumpable.
#[must_use]
pub fn can_wait(document: &Document, namespaces: &Namespaces) -> bool {
    let (hooks, process) = (&document.hooks, document.process.as_ref());
    let none_before =
        [&hooks.prestart, &hooks.create_runtime, &hooks.create_container, &hooks.start_container];
    let capabilities = process.and_then(|process| process.capabilities.as_ref());
    // Set when the process begins, and what it maps anew counts by them.
    let of_memory = |kind: &str| kind == "RLIMIT_AS" || kind == "RLIMIT_DATA";
    namespaces.new & libc::CLONE_NEWPID != 0
        && !namespaces.joins_before_birth()
        && none_before.iter().all(|hooks| hooks.is_empty())
        && !capabilities.is_some_and(|wanted| wanted.any("CAP_SYS_PTRACE"))
        && !process.is_some_and(|process| process.rlimits.iter().any(|limit| of_memory(&limit.kind)))
        && a_process_can_go_on()
}

/// Returns once this process runs from a program file that cannot be written to.
///
/// # Errors
/// Neither way works (no `/proc`, no memory).
pub fn protect() -> Result<()> {
    if MOUNT.lock().is_ok_and(|kept| kept.is_some()) {
        return Ok(());
    }
    let Some(exe) = unprotected()? else { return Ok(()) };
    let safe = match read_only_mount(&exe) {
        Ok(mount) => match file_in(&mount).and_then(|file| sys::exe_file::replace(file.as_fd())) {
            Ok(()) => {
                keep(mount);
                return Ok(());
            }
            Err(_) => mount,
        },
        Err(_) => sealed_copy(&exe).context("copy our own program into memory")?,
    };
    let args: Vec<CString> =
        sys::start::arguments().into_iter().filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).ok()
        })
        .collect();
    Err(sys::clone::exec_fd(safe.as_fd(), &args, &env)).context("execute our own program again")
}

/// Our program as a file that cannot be written to, for a container's process to go on from; none where that is not needed.
///
/// # Errors
/// No `/proc`, no memory.
pub fn safe_file() -> Result<Option<OwnedFd>> {
    if MOUNT.lock().is_ok_and(|kept| kept.is_some()) {
        return Ok(None);
    }
    let Some(exe) = unprotected()? else { return Ok(None) };
    // The process may be another user by then.
    let for_all = fstat(&exe).context("look at our own program")?.st_mode & 0o1 != 0;
    if for_all
        && let Ok(mount) = read_only_mount(&exe)
        && let Ok(file) = file_in(&mount)
    {
        keep(mount);
        return Ok(Some(file));
    }
    sealed_copy(&exe).context("copy our own program into memory").map(Some)
}

/// Why it failed to go on from there.
pub const GO_ON: &str = "go on from a program that cannot be written to";

/// Goes on from what [`safe_file`] has found, as a container's process.
///
/// # Errors
/// The kernel does not let it.
pub fn go_on_from(file: &OwnedFd) -> Result<()> {
    sys::exe_file::replace(file.as_fd()).context(GO_ON)
}

fn keep(mount: OwnedFd) {
    if let Ok(mut kept) = MOUNT.lock() {
        *kept = Some(mount);
    }
}

/// Our program, unless it cannot be written to.
fn unprotected() -> Result<Option<OwnedFd>> {
    let exe = open(OWN_PROGRAM, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open our own program")?;
    let protected = is_protected(exe.as_fd()).context("look at our own program")?;
    Ok((!protected).then_some(exe))
}

/// Closes the descriptor of the mount that we run from; our file in it stays. The last of the processes that have it waits
/// for the kernel then, so it is for the container's process at once, and for the runtime when it has nothing better to do.
pub fn let_go_of_mount() {
    if let Ok(mut kept) = MOUNT.lock() {
        *kept = None;
    }
}

fn is_protected(exe: impl AsFd) -> io::Result<bool> {
    if fstatvfs(&exe)?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    // Only files in memory can have seals; for others the question itself is an error.
    let seals = fcntl(&exe, FcntlArg::F_GET_SEALS).unwrap_or(0);
    Ok(seals & SealFlag::F_SEAL_WRITE.bits() != 0)
}

fn read_only_mount(exe: &OwnedFd) -> io::Result<OwnedFd> {
    let mount = sys::mount::copy_tree(exe.as_fd(), Path::new(""), false, false)?;
    let attributes = Attributes { set: attr::RDONLY | attr::NOSUID, ..Attributes::default() };
    sys::mount::set_attributes(mount.as_fd(), attributes, false)?;
    Ok(mount)
}

/// To go on from: executing the same program again would load and relocate it a second time.
fn file_in(mount: &OwnedFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", mount.as_raw_fd());
    Ok(open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn sealed_copy(exe: &OwnedFd) -> Result<OwnedFd> {
    let memory = memfd_create("runtime", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut to = File::from(memory);
    io::copy(&mut File::from(exe.try_clone()?), &mut to)?;
    to.flush()?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&to, FcntlArg::F_ADD_SEALS(seals))?;
    // A file that is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", to.as_raw_fd());
    Ok(open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}
