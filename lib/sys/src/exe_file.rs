//! The file that this process runs (`/proc/self/exe`), changed without `execve(2)`.
//!
//! The kernel lets a process name another file once none of its memory is mapped from the first one
//! (`PR_SET_MM_MAP` in prctl(2)).
#![allow(clippy::cast_possible_truncation, reason = "addresses and lengths of this very program")]

use std::ffi::c_char;
use std::io;
#[cfg(target_arch = "x86_64")]
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::{ptr, slice};

#[cfg(target_pointer_width = "32")]
use libc::Elf32_Phdr as Phdr;
#[cfg(target_pointer_width = "64")]
use libc::Elf64_Phdr as Phdr;

// Segments are cut by the smallest page.
use crate::memory::PAGE;

pub(crate) const PR_SET_MM: libc::c_int = 35;
pub(crate) const PR_SET_MM_MAP: libc::c_int = 14;
const PR_SET_MM_MAP_SIZE: libc::c_ulong = 15;

/// `struct prctl_mm_map` of linux/prctl.h.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct MemoryMap {
    code: [u64; 2],
    data: [u64; 2],
    heap: [u64; 2],
    stack: u64,
    args: [u64; 2],
    env: [u64; 2],
    auxv: u64,
    auxv_bytes: u32,
    exe_fd: u32,
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Whether this program is laid out as [`replace`] needs it, and the kernel knows how and lets this process ask.
#[must_use]
pub fn is_possible() -> bool {
    let mut size: libc::c_uint = 0;
    // SAFETY: the kernel writes the length of a structure into `size`.
    let known = unsafe { libc::prctl(PR_SET_MM, PR_SET_MM_MAP_SIZE, &raw mut size, 0, 0) == 0 };
    known && segments().is_some()
}

/// From now on this process runs from `file`, which is the file that it was started from, but opened by way of another
/// mount, or a copy of it.
///
/// Only for a program with a single thread, that has not changed its environment.
///
/// # Errors
/// `ENOTSUP` where the program is not laid out as ours are (a static program that says where it was loaded), `EPERM`
/// without `CAP_SYS_ADMIN` or `CAP_CHECKPOINT_RESTORE` (before Linux 5.9: without `CAP_SYS_RESOURCE`), `EINVAL` from a
/// kernel without CONFIG_CHECKPOINT_RESTORE. The process goes on as before then.
pub fn replace(file: BorrowedFd<'_>) -> io::Result<()> {
    let unsupported = || io::Error::from_raw_os_error(libc::ENOTSUP);
    let segments = segments().ok_or_else(unsupported)?;
    let map = memory_map(&segments, file).ok_or_else(unsupported)?;
    for segment in &segments {
        if segment.writable { segment.detach()? } else { segment.map_from(file)? }
    }
    // SAFETY: the kernel reads `map`, which lives until the call returns, and checks all in it.
    let done = unsafe {
        libc::prctl(PR_SET_MM, PR_SET_MM_MAP as libc::c_ulong, &raw const map, size_of_val(&map), 0)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A piece of the program in memory, as whole pages.
#[derive(Debug)]
pub(crate) struct Segment {
    pub start: usize,
    /// Bytes that came from the file; what follows in memory are zeros of the kernel's own.
    pub length: usize,
    offset: usize,
    writable: bool,
    executable: bool,
    /// Bytes at its start that were only to be written to while the program was being loaded.
    sealed: usize,
}

/// The pieces that this program was loaded in.
pub(crate) fn segments() -> Option<Vec<Segment>> {
    let (address, count) = (auxiliary(libc::AT_PHDR), auxiliary(libc::AT_PHNUM));
    if address == 0 || auxiliary(libc::AT_PHENT) != size_of::<Phdr>() || auxiliary(libc::AT_PAGESZ) != PAGE {
        return None;
    }
    // SAFETY: the kernel says that this program's headers are there, as many and each as long as that.
    let headers = unsafe { slice::from_raw_parts(address as *const Phdr, count) };
    let find = |kind| headers.iter().find(|header| header.p_type == kind);
    if find(libc::PT_INTERP).is_some() {
        return None;
    }
    // They are in the file's first page, which is loaded with the first piece.
    let first = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_offset == 0)?;
    let loaded_at = (address & !(PAGE - 1)).checked_sub(first.p_vaddr as usize)?;
    let relro =
        find(libc::PT_GNU_RELRO).map_or(0, |header| loaded_at + (header.p_vaddr + header.p_memsz) as usize);
    let mut segments = Vec::new();
    for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_filesz > 0) {
        let first = loaded_at + header.p_vaddr as usize;
        let start = first & !(PAGE - 1);
        let writable = header.p_flags & libc::PF_W != 0;
        segments.push(Segment {
            start,
            length: (first + header.p_filesz as usize - start).next_multiple_of(PAGE),
            offset: header.p_offset as usize & !(PAGE - 1),
            writable,
            executable: header.p_flags & libc::PF_X != 0,
            sealed: if writable { (relro & !(PAGE - 1)).saturating_sub(start) } else { 0 },
        });
    }
    Some(segments)
}

/// Maps the pages that have this code once more, from `file`. Returns the address that the code begins at there.
#[cfg(target_arch = "x86_64")]
pub(crate) fn map_code(segments: &[Segment], code: Range<usize>, file: BorrowedFd<'_>) -> io::Result<usize> {
    let has_it = |segment: &&Segment| {
        segment.executable && (segment.start..segment.start + segment.length).contains(&code.start)
    };
    let unsupported = || io::Error::from_raw_os_error(libc::ENOTSUP);
    let segment = segments.iter().find(has_it).ok_or_else(unsupported)?;
    let within = code.start & (PAGE - 1);
    let offset = (segment.offset + (code.start - within - segment.start)) as libc::off_t;
    let length = (within + code.len()).next_multiple_of(PAGE);
    let (protection, none) = (libc::PROT_READ | libc::PROT_EXEC, ptr::null_mut());
    // SAFETY: new memory, where the kernel likes it.
    let at = unsafe { libc::mmap(none, length, protection, libc::MAP_PRIVATE, file.as_raw_fd(), offset) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at as usize + within) }
}

impl Segment {
    /// Maps the same bytes again, from `file`.
    fn map_from(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let protection = libc::PROT_READ | if self.executable { libc::PROT_EXEC } else { 0 };
        let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
        let (start, offset) = (self.start as *mut libc::c_void, self.offset as libc::off_t);
        // SAFETY: the range is one of this program's own and read-only, and the caller says that the file holds what it
        // was loaded from: no byte changes, also not of the code that runs right now.
        let mapped = unsafe { libc::mmap(start, self.length, protection, flags, file.as_raw_fd(), offset) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Puts memory of no file in its place, with what it holds now.
    fn detach(&self) -> io::Result<()> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: new memory, where the kernel likes it.
        let copy = unsafe { libc::mmap(ptr::null_mut(), self.length, protection, flags, -1, 0) };
        if copy == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = self.start as *mut libc::c_void;
        // SAFETY: both are `length` bytes of mapped memory. The move puts the copy where the original was in one step,
        // and nothing has changed the original in between: there is one thread, and it only makes these calls.
        let moved = unsafe {
            ptr::copy_nonoverlapping(start.cast::<u8>(), copy.cast::<u8>(), self.length);
            libc::mremap(copy, self.length, self.length, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, start)
        };
        if moved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: nothing writes there after the program was loaded: that is what the linker says of it.
        if self.sealed > 0 && unsafe { libc::mprotect(start, self.sealed, libc::PROT_READ) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// What the kernel knows of this process's memory, as it is, but for the file.
pub(crate) fn memory_map(segments: &[Segment], file: BorrowedFd<'_>) -> Option<MemoryMap> {
    let range = |segment: &Segment| [segment.start as u64, (segment.start + segment.length) as u64];
    // SAFETY: set before `main`; only read here.
    let variables = unsafe { environ };
    if variables.is_null() {
        return None;
    }
    let count = crate::start::arguments().len();
    // The kernel puts, from the stack's start on: how many arguments, them, a null, the environment, a null; and at its
    // end the arguments' words, the environment's, the program's name.
    let stack = variables.wrapping_sub(count + 2);
    // SAFETY: musl and glibc leave `environ` pointing into what the kernel put there, until somebody changes the
    // environment, which the caller has not.
    let (found, first_argument, first_variable) =
        unsafe { (*stack as usize, *stack.wrapping_add(1) as u64, *variables as u64) };
    if count == 0 || found != count {
        return None;
    }
    let end = auxiliary(libc::AT_EXECFN) as u64;
    let env = if first_variable == 0 { end } else { first_variable };
    // SAFETY: brk(2) of an impossible address changes nothing and says where the heap ends.
    let heap = unsafe { libc::syscall(libc::SYS_brk, 0) }.cast_unsigned();
    Some(MemoryMap {
        code: range(segments.iter().find(|segment| segment.executable)?),
        data: range(segments.iter().find(|segment| segment.writable)?),
        heap: [heap, heap],
        stack: stack as u64,
        args: [first_argument, env],
        env: [env, end],
        auxv: 0,
        auxv_bytes: 0,
        exe_fd: u32::try_from(file.as_raw_fd()).ok()?,
    })
}

fn auxiliary(kind: libc::c_ulong) -> usize {
    // SAFETY: only looks a number up in what the kernel gave the program.
    unsafe { libc::getauxval(kind) as usize }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::process::Command;

    use crate::mount::{Attributes, attr, copy_tree, set_attributes};

    /// The same file in a read-only mount.
    pub(crate) fn read_only(file: &File) -> File {
        let mount = copy_tree(file.as_fd(), Path::new(""), false, false).expect("copy its mount");
        let read_only = Attributes { set: attr::RDONLY, ..Attributes::default() };
        set_attributes(mount.as_fd(), read_only, false).expect("make it read-only");
        File::open(format!("/proc/self/fd/{}", mount.as_raw_fd())).expect("open the file in it")
    }

    #[test]
    fn a_process_goes_on_from_the_same_file_in_another_mount() {
        if !cfg!(target_feature = "crt-static") {
            eprintln!("SKIPPED: a dynamic program cannot");
            return;
        }
        // In a process of its own, and in that one's first thread.
        let only = ["--ignored", "--exact", "exe_file::tests::goes_on", "--test-threads=1"];
        let output = Command::new("/proc/self/exe").args(only).output().expect("start this program again");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }

    #[test]
    #[ignore = "run by the test above"]
    fn goes_on() {
        let own = File::open("/proc/self/exe").expect("open this program");
        let file = read_only(&own);
        replace(file.as_fd()).expect("go on from there");
        drop(file);
        let flags = nix::sys::statvfs::statvfs("/proc/self/exe").expect("look at its file system").flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
        let inode = |file: File| file.metadata().expect("look at it").ino();
        assert_eq!(inode(File::open("/proc/self/exe").expect("open it")), inode(own));
        let arguments: Vec<u8> = std::env::args().flat_map(|arg| (arg + "\0").into_bytes()).collect();
        assert_eq!(std::fs::read("/proc/self/cmdline").expect("read the command line"), arguments);
        let environment = std::fs::read("/proc/self/environ").expect("read the environment");
        assert!(environment.starts_with(std::env::vars().next().expect("a variable").0.as_bytes()));
    }
}
