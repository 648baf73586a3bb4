//! The system calls std and nix do not offer; the only unsafe code here.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socket};

/// How a process ended and what it cost.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// Peak resident set of it and its largest waited-for descendant, KiB.
    pub peak_rss: i64,
}

/// Makes this process adopt orphaned descendants, so that the init of a created container can be waited for.
///
/// # Errors
/// The kernel refuses (it does not).
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// A descriptor that becomes readable when the process ends.
///
/// # Errors
/// `ESRCH`: it is gone.
pub fn open_pid(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: integers in, a new descriptor or -1 out.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until the process has ended, at most `limit`; false when the time is up. It is not reaped.
///
/// # Errors
/// Poll fails.
pub fn await_end(pid: i32, limit: Duration) -> io::Result<bool> {
    let fd = match open_pid(pid) {
        Err(err) if err.raw_os_error() == Some(libc::ESRCH) => return Ok(true),
        other => other?,
    };
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

/// Reaps a child (or adopted orphan) that has ended or will end.
///
/// # Errors
/// `ECHILD`: not a child of this process.
pub fn reap(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live memory of the right type for the whole call.
        let rc = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
        if rc == pid {
            break;
        }
        let err = io::Error::last_os_error();
        if err.kind() != io::ErrorKind::Interrupted {
            return Err(err);
        }
    }
    // SAFETY: zeroed at first and filled by the kernel; every bit pattern is valid.
    let usage = unsafe { usage.assume_init() };
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    Ok(Ended { code, peak_rss: usage.ru_maxrss })
}

/// Reaps the init of a container that was killed or is about to end, and whatever else came out of its pid namespace.
///
/// As a subreaper this process is the parent of processes that a tool left in the container, and the kernel keeps an
/// init from ending until all of its namespace has been reaped.
///
/// # Errors
/// `ECHILD`: not a child of this process. `TimedOut`.
pub fn reap_init(pid: i32, limit: Duration) -> io::Result<Ended> {
    let deadline = Instant::now() + limit;
    loop {
        // Readable means that it will not run again, not that it can be reaped at once.
        if await_end(pid, Duration::from_millis(20))? && is_reapable(pid)? {
            return reap(pid);
        }
        reap_orphans();
        if Instant::now() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

fn is_reapable(pid: i32) -> io::Result<bool> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = libc::id_t::try_from(pid).map_err(io::Error::other)?;
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the pointer is to live memory of the right type; WNOWAIT leaves the child as it is.
    if unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), options) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed at first and filled by the kernel; every bit pattern is valid.
    Ok(unsafe { info.assume_init().si_pid() } == pid)
}

/// Reaps dead children of this process that lived in another pid namespace and were not its init.
fn reap_orphans() {
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()) {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line =
                |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            let inner: Vec<&str> = line("NSpid:").split_whitespace().skip(1).collect();
            if line("State:").trim().starts_with('Z') && inner.last().is_some_and(|&pid| pid != "1") {
                let _ = reap(pid);
            }
        }
    }
}

/// Forks into new namespaces (`CLONE_NEW*` flags); 0 in the child.
///
/// # Errors
/// The kernel refuses the namespaces.
pub fn fork_into(namespaces: i32) -> io::Result<i32> {
    fork_into_cgroup(namespaces, None)
}

/// As [`fork_into`], and into a cgroup of version 2.
///
/// # Errors
/// As [`fork_into`].
pub fn fork_into_cgroup(namespaces: i32, cgroup: Option<&OwnedFd>) -> io::Result<i32> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let flags = u64::try_from(namespaces).unwrap_or(0) | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let exit_signal = u64::try_from(libc::SIGCHLD).unwrap_or(0);
    let cgroup = cgroup.map_or(0, |fd| u64::from(fd.as_raw_fd().cast_unsigned()));
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size,
    // cgroup.
    let arguments: [u64; 11] = [flags, 0, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup];
    // SAFETY: no memory is shared (no CLONE_VM), the process is single-threaded where this is called, so the child is
    // an ordinary fork; the struct is live and its size is passed.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(pid).map_err(io::Error::other) }
}

/// Brings the loopback interface of this network namespace up.
///
/// # Errors
/// Whatever `ioctl(2)` says.
pub fn loopback_up() -> io::Result<()> {
    // 16 bits, which both a C library's int and another's unsigned long take.
    const SIOCSIFFLAGS: u16 = 0x8914;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: plain old data, for which zero bytes are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(io::Error::other)?;
    // SAFETY: the request reads an ifreq, which outlives the call.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS.into(), &raw const request) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the capabilities of these bits out of the bounding set; those that the kernel does not know are left out.
pub fn drop_bounding(capabilities: u64) {
    for capability in (0..41).filter(|bit| capabilities >> bit & 1 != 0) {
        // SAFETY: passes integers.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability) };
    }
}

/// Installs a system call filter on this thread, with no_new_privs.
///
/// # Errors
/// Whatever `seccomp(2)` says.
pub fn install_filter(code: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(code.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: code.as_ptr().cast_mut() };
    // SAFETY: passes integers; then a program of the stated length, which the kernel only reads.
    let rc = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The I/O priority of this process as the kernel encodes it (class << 13 | level).
#[must_use]
pub fn io_priority() -> i64 {
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) }
}

/// The scheduling policy (`SCHED_*`) of this process.
#[must_use]
pub fn scheduler() -> i64 {
    // musl's own function always fails, as POSIX would have it per process and Linux has it per thread.
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }
}

/// The nice value of this process.
#[must_use]
pub fn nice() -> i32 {
    // SAFETY: integers only.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// The execution domain of this process.
#[must_use]
pub fn personality() -> i32 {
    // SAFETY: 0xffffffff only asks.
    unsafe { libc::personality(0xffff_ffff) }
}

/// Asks for the session keyring's id without making one; negative errno where there is none.
#[must_use]
pub fn session_keyring() -> i64 {
    const KEYCTL_GET_KEYRING_ID: i32 = 0;
    const SESSION_KEYRING: i32 = -3;
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, SESSION_KEYRING, 0) }
}

/// Rows and columns of the terminal on descriptor 0.
#[must_use]
pub fn terminal_size() -> Option<(u16, u16)> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ fills a winsize at a live pointer.
    let rc = unsafe { libc::ioctl(0, libc::TIOCGWINSZ, size.as_mut_ptr()) };
    // SAFETY: zeroed at first; every bit pattern is valid.
    let size = unsafe { size.assume_init() };
    (rc == 0).then_some((size.ws_row, size.ws_col))
}

/// Exchanges what two names refer to, in one step.
///
/// # Errors
/// Whatever `renameat2(2)` says.
pub fn exchange(one: &Path, two: &Path) -> io::Result<()> {
    let [one, two] = [one, two].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (one, two) = (one?, two?);
    let (at, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
    // SAFETY: both pointers are to strings that live until the call returns.
    let rc = unsafe { libc::syscall(libc::SYS_renameat2, at, one.as_ptr(), at, two.as_ptr(), flags) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives one descriptor sent with `SCM_RIGHTS`.
///
/// # Errors
/// The other end sent none.
pub fn receive_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0_u8; 256];
    let mut space = nix::cmsg_space!([i32; 4]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let socket = socket.as_raw_fd();
    let message = loop {
        match recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            // A machine that was suspended: see signal(7).
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let Some(&fd) = descriptors.first()
        {
            // SAFETY: the kernel just put this descriptor into our table; nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
    Err(io::Error::other("no descriptor came"))
}
