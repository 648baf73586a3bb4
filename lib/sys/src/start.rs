//! `main` of programs that live for a few milliseconds, without what Rust's library does before its own: it maps a stack
//! for a handler of stack overflows, which needs ten calls, and a mapping that is copied with every process.

use std::ffi::{CStr, OsString, c_char, c_int};
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The arguments that [`run`] was given, with a null behind the last.
static ARGUMENTS: AtomicPtr<*const c_char> = AtomicPtr::new(ptr::null_mut());

/// Makes `$program`, a `fn() -> u8` that returns the exit code, what this program does. For a crate with `#![no_main]`.
#[macro_export]
macro_rules! main {
    ($program:path) => {
        // SAFETY: a program has one `main`, and the C library calls it as C says.
        #[allow(unsafe_code, reason = "the C library finds it by its name")]
        #[unsafe(no_mangle)]
        extern "C" fn main(_: i32, arguments: *mut *const ::core::ffi::c_char) -> i32 {
            $crate::start::run(arguments, $program)
        }
    };
}

/// What the C library's `main` does; see [`main!`](crate::main).
pub fn run(arguments: *mut *const c_char, program: fn() -> u8) -> c_int {
    ARGUMENTS.store(arguments, Ordering::Relaxed);
    // As Rust's library: files that are opened are not to become the standard streams, and a reader that went away is an
    // error, no end.
    fill_standard_streams();
    // SAFETY: no handler of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let code = program();
    // Nobody is left to tell.
    let _ = std::io::stdout().flush();
    code.into()
}

/// The words of the command line, the program's name first.
#[must_use]
pub fn arguments() -> Vec<OsString> {
    let first = ARGUMENTS.load(Ordering::Relaxed);
    if first.is_null() {
        return std::env::args_os().collect();
    }
    let words = (0..).map(|index| {
        // SAFETY: the array goes on until the null, which ends this.
        let word = unsafe { *first.add(index) };
        // SAFETY: the C library's arguments are strings that stay.
        (!word.is_null()).then(|| unsafe { CStr::from_ptr(word) })
    });
    words.map_while(|word| word.map(|word| OsString::from_vec(word.to_bytes().to_vec()))).collect()
}

/// Ends this process where it cannot.
fn fill_standard_streams() {
    for stream in 0..3 {
        // SAFETY: asks whether the descriptor is open, and opens a file by a constant path: in its place, for the kernel takes
        // the lowest number that is free.
        let there = unsafe {
            libc::fcntl(stream, libc::F_GETFD) >= 0
                || libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == stream
        };
        if !there {
            crate::clone::exit_now(1);
        }
    }
}
