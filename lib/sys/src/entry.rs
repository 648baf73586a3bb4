//! Where a program begins, before the C library's own beginning.
//!
//! The pages that it is sure to write to are made at once: each would be a fault of its own otherwise, and in a virtual
//! machine the fault takes twice as long as the page. A kernel before Linux 5.14 does not know the request; nothing depends
//! on it.
//!
//! And it is relocated: all pointers in its data, of which `DT_RELR` has a bit each, get the address where it was loaded.
//! musl would look at each of the bits, which was a quarter of what `runtime state` executed.
//!
//! For programs that live for a few milliseconds, which are linked with `-e prepared_start`.

use std::arch::global_asm;

use crate::memory::PAGE;

/// Tags of the dynamic section (elf.h).
const DT_RELRSZ: u64 = 35;
const DT_RELR: u64 = 36;

/// Bytes of the stack that are made.
const STACK: usize = 32 << 10;

// From `__init_array_start`, which is the linker's, to the heap's first piece, which lib/link puts last: what is relocated
// first of all, and all variables. In the end every register is as the kernel gave it, or free to be anything.
//
// The format is the generic ABI's (`SHT_RELR`): an even entry is the place of a pointer; each odd one behind it is a set
// of the 63 words that follow, the lowest bit but one being the first. `DT_RELRSZ` is zero afterwards, for musl.
global_asm!(
    ".globl prepared_start",
    ".hidden __init_array_start",
    ".hidden __ehdr_start",
    ".hidden _DYNAMIC",
    "prepared_start:",
    "lea rdi, [rip + __init_array_start]",
    "and rdi, -{page}",
    "lea rsi, [rip + {heap}]",
    "sub rsi, rdi",
    "mov edx, {populate}",
    "mov eax, {madvise}",
    "syscall",
    "lea rdi, [rsp - {stack}]",
    "and rdi, -{page}",
    "mov esi, {stack}",
    "mov eax, {madvise}",
    "syscall",
    // r8: the next entry; r9: behind the last one, at first their length; r10: where the program is loaded.
    "lea r10, [rip + __ehdr_start]",
    "lea rcx, [rip + _DYNAMIC]",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "2:",
    "mov rax, [rcx]",
    "cmp rax, {relr}",
    "cmove r8, [rcx + 8]",
    "cmp rax, {relrsz}",
    "jne 3f",
    "mov r9, [rcx + 8]",
    "mov qword ptr [rcx + 8], 0",
    "3:",
    "add rcx, 16",
    "test rax, rax",
    "jnz 2b",
    "add r8, r10",
    "add r9, r8",
    "jmp 7f",
    // rdx: the word behind the last one that an entry was about.
    "4:",
    "mov rax, [r8]",
    "add r8, 8",
    "shr rax",
    "jc 6f",
    "lea rdx, [r10 + rax * 2]",
    "add [rdx], r10",
    "add rdx, 8",
    "jmp 7f",
    "5:",
    "bsf rcx, rax",
    "add [rdx + rcx * 8], r10",
    "lea rcx, [rax - 1]",
    "and rax, rcx",
    "6:",
    "test rax, rax",
    "jnz 5b",
    "add rdx, 63 * 8",
    "7:",
    "cmp r8, r9",
    "jb 4b",
    "xor edx, edx",
    "jmp _start",
    heap = sym crate::heap::FIRST,
    stack = const STACK,
    page = const PAGE,
    madvise = const libc::SYS_madvise,
    populate = const libc::MADV_POPULATE_WRITE,
    relr = const DT_RELR,
    relrsz = const DT_RELRSZ,
);
