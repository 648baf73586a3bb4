//! eBPF programs on cgroups: `bpf(2)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// One eBPF instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the lower half, source in the upper (the other way on big-endian machines).
    pub registers: u8,
    /// Of a memory access or a jump.
    pub offset: i16,
    /// Constant operand.
    pub immediate: i32,
}

impl Instruction {
    /// An instruction; unused parts are 0.
    #[must_use]
    pub const fn new(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Self {
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        Self { code, registers, offset, immediate }
    }
}

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: beside the programs of others, all of which must allow.
const ALLOW_MULTI: u32 = 1 << 1;

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The start of `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target: i32,
    program: i32,
    kind: u32,
    flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
///
/// # Errors
/// `EPERM` without `CAP_BPF` or in a user namespace, `EINVAL` or `EACCES` where the verifier refuses the program.
pub fn load_cgroup_device(program: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let attributes = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let size = size_of::<Load>();
    // SAFETY: the attributes point at the program and a C string, both alive through the call; the kernel copies.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size) };
    let fd = i32::try_from(rc).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor (O_CLOEXEC is implied) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup (v2). It stays until the cgroup goes.
///
/// # Errors
/// `EPERM` where a program above does not allow others below.
pub fn attach_cgroup_device(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let attributes = Attach {
        target: cgroup.as_fd().as_raw_fd(),
        program: program.as_fd().as_raw_fd(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    let size = size_of::<Attach>();
    // SAFETY: the attributes are integers in a live struct of the size given.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, size) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
