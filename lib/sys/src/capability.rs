//! Capability sets of this process: `capget(2)`, `capset(2)`, the bounding and the ambient set (capabilities(7)).
//! A set is a bit mask, bit n being capability number n.

use std::io;

/// Names by number (linux/capability.h), without `CAP_`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const VERSION_3: u32 = 0x2008_0522;

/// The three sets of `capset(2)`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Sets {
    /// What is checked.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// What survives the execution of a file that inherits it.
    pub inheritable: u64,
}

#[repr(C)]
pub(crate) struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Default, Clone, Copy)]
pub(crate) struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The sets of this process.
///
/// # Errors
/// None in practice.
pub fn get() -> io::Result<Sets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two Data after the header, which is what is passed.
    if unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Sets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Replaces the sets of this process.
///
/// # Errors
/// `EPERM` where a set would grow beyond what is allowed.
pub fn set(sets: Sets) -> io::Result<()> {
    let (header, data) = in_kernel_form(sets);
    // SAFETY: version 3 reads two Data after the header, which is what is passed.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What `capset(2)` reads.
pub(crate) fn in_kernel_form(sets: Sets) -> (Header, [Data; 2]) {
    let half = |shift: u32| Data {
        effective: low(sets.effective >> shift),
        permitted: low(sets.permitted >> shift),
        inheritable: low(sets.inheritable >> shift),
    };
    (Header { version: VERSION_3, pid: 0 }, [half(0), half(32)])
}

/// Whether a capability is in the bounding set.
///
/// # Errors
/// `EINVAL` where the kernel does not know the number.
pub fn bounding_has(number: u32) -> io::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, number, 0).map(|answer| answer == 1)
}

/// Takes a capability out of the bounding set.
///
/// # Errors
/// `EINVAL` where the kernel does not know the number, `EPERM` without `CAP_SETPCAP`.
pub fn drop_bounding(number: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, number, 0).map(|_| ())
}

/// Empties the ambient set.
///
/// # Errors
/// None in practice.
pub fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL.cast_unsigned(), 0).map(|_| ())
}

/// Adds a capability, which must be permitted and inheritable, to the ambient set.
///
/// # Errors
/// `EPERM` where it is not both.
pub fn raise_ambient(number: u32) -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE.cast_unsigned(), number).map(|_| ())
}

fn prctl(option: i32, first: u32, second: u32) -> io::Result<i32> {
    // SAFETY: these options take integers only; the unused arguments must be zero.
    let rc = unsafe {
        libc::prctl(
            option,
            libc::c_ulong::from(first),
            libc::c_ulong::from(second),
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
const fn low(bits: u64) -> u32 {
    bits as u32
}
