//! How a process is scheduled: `ioprio_set(2)`, `sched_setattr(2)`, `set_mempolicy(2)`.

use std::io;

/// The argument of `sched_setattr(2)`.
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Filled in by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_…`.
    pub policy: u32,
    /// `SCHED_FLAG_…`.
    pub flags: u64,
    /// For the time-sharing policies.
    pub nice: i32,
    /// For the real-time policies.
    pub priority: u32,
    /// Deadline policy: nanoseconds.
    pub runtime: u64,
    /// Deadline policy: nanoseconds.
    pub deadline: u64,
    /// Deadline policy: nanoseconds.
    pub period: u64,
}

/// Sets the scheduling policy of this process.
///
/// # Errors
/// `EPERM`, `EINVAL` or `EBUSY` as `sched_setattr(2)` says.
pub fn set_scheduler(attributes: Attributes) -> io::Result<()> {
    let size = u32::try_from(size_of::<Attributes>()).map_err(io::Error::other)?;
    let attributes = Attributes { size, ..attributes };
    // SAFETY: passes a struct that says its own size.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the I/O class (1 real-time, 2 best effort, 3 idle) and priority (0 to 7) of this process.
///
/// # Errors
/// `EPERM` for the real-time class without the capability.
pub fn set_io_priority(class: u8, priority: u8) -> io::Result<()> {
    let value = libc::c_long::from(class) << 13 | libc::c_long::from(priority);
    // SAFETY: passes integers only; 1 is IOPRIO_WHO_PROCESS, 0 this process.
    let rc = unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, value) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets this process run on every processor that its cgroup has.
///
/// # Errors
/// None in practice.
pub fn use_all_processors() -> io::Result<()> {
    // More than any kernel counts; it takes as many as it knows.
    let all = [u8::MAX; 1024];
    // SAFETY: the mask has the stated length and outlives the call; 0 is this process.
    let rc = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, all.len(), all.as_ptr()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets the NUMA policy of this process: `mode` with its flags, and a bit mask of nodes.
///
/// # Errors
/// `EINVAL` for a wrong mode or mask, `ENOSYS` without NUMA.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel counts one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    // Without any it reads on where there is nothing to read, unless there is no pointer.
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask has the stated number of bits (rounded up to whole words) and outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
