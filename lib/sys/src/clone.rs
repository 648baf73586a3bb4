//! Making and replacing processes: `clone3(2)`, `close_range(2)`, `execveat(2)`, signal dispositions.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `CLONE_NEWTIME`, which not every libc names.
pub const CLONE_NEWTIME: i32 = 0x80;
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// Who the caller of [`clone`] is afterwards.
#[derive(Debug)]
pub enum Cloned {
    /// The caller, with the child's pid in the caller's pid namespace and a pidfd of it.
    Parent {
        /// The child.
        pid: i32,
        /// The child, for `poll`, `waitid`, `setns` and signals.
        pidfd: OwnedFd,
    },
    /// The new process.
    Child,
}

/// The argument of the system call, up to its `cgroup` field (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// What [`clone`] makes.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneOptions<'fd> {
    /// `CLONE_NEW…` flags.
    pub namespaces: i32,
    /// Start life in this cgroup (a directory of the version 2 hierarchy).
    pub cgroup: Option<BorrowedFd<'fd>>,
    /// Make a sibling: its parent is the caller's parent.
    pub sibling: bool,
}

/// Copies this process as `fork(2)` does, straight into new namespaces and a cgroup. Handled signals are back at
/// their defaults in the child.
///
/// Only for programs with a single thread: the child runs on with the caller's memory, and a lock held by another
/// thread would stay held in it forever.
///
/// # Errors
/// Whatever `clone3(2)` says.
pub fn clone(options: CloneOptions<'_>) -> io::Result<Cloned> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | CLONE_CLEAR_SIGHAND | u64::from(options.namespaces.cast_unsigned()),
        pidfd: (&raw mut pidfd) as u64,
        ..CloneArgs::default()
    };
    if options.sibling {
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child gets a copy of everything, as with fork(2); `args` and `pidfd` live across
    // the call and have the layout the kernel expects; callers are single-threaded (documented above).
    let rc = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match rc {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent {
            pid: i32::try_from(pid).map_err(io::Error::other)?,
            // SAFETY: the kernel stored a new descriptor here, which nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Marks every descriptor from `first` on to be closed by `execve(2)`.
///
/// # Errors
/// `ENOSYS` before Linux 5.9, `EINVAL` before 5.11.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: sets a flag on descriptors; no memory is passed, and no descriptor changes its owner.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from `first` on but those `kept`, behind the back of whoever owns them: for a copy of a process
/// that never returns to them.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_all_but(first: u32, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let close = |from: u32, to: u32| {
        // SAFETY: no memory is passed; the owners of what is closed are never run again, as the caller promises.
        let rc = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut from = first;
    for number in kept {
        if number > from {
            close(from, number - 1)?;
        }
        from = from.max(number + 1);
    }
    close(from, libc::c_uint::MAX)
}

/// Executes the program behind a descriptor. Returns only on failure.
pub fn exec_fd(program: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<*const libc::c_char>>()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end with a null pointer and point to NUL-terminated strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Gives every signal its default meaning again and unblocks it: the state in which a program expects to start,
/// whatever our caller ignored. `execve(2)` resets handlers but keeps what is ignored.
///
/// # Errors
/// None in practice.
pub fn default_signals() -> io::Result<()> {
    /// The kernel's `struct sigaction`, all zero: `SIG_DFL`, no flags. As long as the longest of any architecture.
    const DEFAULT: [u64; 4] = [0; 4];
    for signal in 1..=KERNEL_SIGNALS {
        // Through the kernel: the C library refuses 32 to 34, which it keeps for itself. SIGKILL and SIGSTOP answer
        // EINVAL, and are at their default anyway.
        // SAFETY: the kernel reads the action, which outlives the call; no handler function is involved.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                KERNEL_SIGNALS / 8,
            );
        }
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Has this process end by the signals that ask for it: a process that is the first of its PID namespace gets none whose
/// meaning it leaves at the default. Until the next [`default_signals`] or `execve(2)`.
///
/// # Errors
/// None in practice.
pub fn end_when_asked() -> io::Result<()> {
    extern "C" fn end(signal: libc::c_int) {
        exit_now(128 + signal);
    }
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    for signal in
        [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2]
    {
        // SAFETY: the handler makes one call, which is async-signal-safe, and does not return.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

/// Signals that the kernel counts, `_NSIG`, on every architecture but MIPS.
const KERNEL_SIGNALS: libc::c_long = 64;

/// Makes `fd` number `number` (which it replaces) without close-on-exec.
///
/// # Errors
/// Whatever `dup2(2)` says.
pub fn place_fd(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: the caller names a number that is its own to give away, such as 0, 1 or 2; std never owns those.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends this process at once, without running anything that the copy of another process might still hold.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Whether a descriptor of this number came with the execution of this program. Those that it opened itself are
/// close-on-exec, which is how they are told apart.
#[must_use]
pub fn is_inherited(number: RawFd) -> bool {
    // SAFETY: F_GETFD only asks.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Closes a descriptor that a new copy of this process must not keep and whose owner will never run there again
/// (the copy ends by `execve(2)` or `_exit(2)`).
pub fn forget_fd(number: RawFd) {
    // SAFETY: the owner in this copy of the process neither uses nor drops it, as documented.
    unsafe { libc::close(number) };
}
