//! Where a program begins, before the C library's own beginning: the pages that it is sure to write to are made at
//! once. Each would be a fault of its own otherwise, and in a virtual machine the fault takes twice as long as the page.
//!
//! For programs that live for a few milliseconds, which are linked with `-e prepared_start`. A kernel before Linux 5.14
//! does not know the request; nothing depends on it.

use std::arch::global_asm;

use crate::memory::PAGE;

/// Bytes of the stack that are made.
const STACK: usize = 32 << 10;

// From `__init_array_start`, which is the linker's, to the heap's first piece, which lib/link puts last: what musl
// relocates first of all, and all variables. In the end every register is as the kernel gave it, or free to be anything.
global_asm!(
    ".globl prepared_start",
    ".hidden __init_array_start",
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
    "xor edx, edx",
    "jmp _start",
    heap = sym crate::heap::FIRST,
    stack = const STACK,
    page = const PAGE,
    madvise = const libc::SYS_madvise,
    populate = const libc::MADV_POPULATE_WRITE,
);
