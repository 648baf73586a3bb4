//! The last calls of a process that becomes a container's program: it goes on from another file of its own program (see
//! [`crate::exe_file`]), confines itself and executes.
//!
//! To go on from that file with everything it has in memory would be a waste just before `execve(2)`: each segment is mapped
//! anew, copied or touched once more. All that is left to do are a few calls with arguments that are known. So one page is mapped
//! from the file, with a loop on it that makes the calls, and the first of them unmaps the program that the loop was started from.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

use crate::capability::Sets;
use crate::seccomp::Instruction;

/// Bytes at the front of a message: one of the caller's, the number of a call, its error.
pub const FRONT: usize = 9;

/// What there is to do, in this order.
#[derive(Debug)]
pub struct LastCalls<'a> {
    /// The file to go on from: what this program was started from, opened by way of another mount, or a copy of it.
    pub own_file: BorrowedFd<'a>,
    /// The system call filter to install, with its flags; it has no listener.
    pub filter: Option<(&'a [Instruction], u32)>,
    /// The capabilities to have then.
    pub capabilities: Option<Sets>,
    /// The program to execute.
    pub program: &'a CStr,
    /// Its arguments.
    pub args: &'a [CString],
    /// Its environment.
    pub env: &'a [CString],
}

#[cfg(not(target_arch = "x86_64"))]
impl LastCalls<'_> {
    /// Not for this kind of processor yet.
    #[must_use]
    pub fn make(self, _: BorrowedFd<'_>, _: &mut [u8]) -> io::Error {
        io::Error::from_raw_os_error(libc::ENOTSUP)
    }
}

#[cfg(target_arch = "x86_64")]
mod loop_of_calls {
    use std::arch::naked_asm;
    use std::convert::Infallible;
    use std::ffi::c_char;
    use std::os::fd::AsRawFd as _;
    use std::ptr;

    use super::{BorrowedFd, CString, FRONT, LastCalls, io};
    use crate::exe_file::{self, PR_SET_MM, PR_SET_MM_MAP};
    use crate::{capability, seccomp};

    /// A system call, ready to be made.
    #[repr(C)]
    struct Call {
        number: libc::c_long,
        args: [usize; 5],
    }

    /// Pointers as `execve(2)` wants them.
    fn pointers(list: &[CString]) -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    }

    /// Bytes that the loop takes, at the most.
    const LENGTH: usize = 256;

    // The kernel leaves the registers alone in which all is kept. The program is gone when it runs: nothing may be called.
    #[unsafe(naked)]
    extern "C" fn one_after_the_other(calls: *const Call, message: *mut u8, length: u32, socket: i32) -> ! {
        naked_asm!(
            "mov r12, rdi",
            "mov r13, rsi",
            "mov r14d, edx",
            "mov r15d, ecx",
            "2:",
            "mov rax, [r12]",
            "mov rdi, [r12 + 8]",
            "mov rsi, [r12 + 16]",
            "mov rdx, [r12 + 24]",
            "mov r10, [r12 + 32]",
            "mov r8, [r12 + 40]",
            "syscall",
            // All of them answer zero; seccomp(2) has a failure that is a positive number.
            "test rax, rax",
            "jnz 3f",
            "add r12, 48",
            "jmp 2b",
            // The number of the call and its error; then the end.
            "3:",
            "neg eax",
            "mov ecx, [r12]",
            "mov [r13 + 1], ecx",
            "mov [r13 + 5], eax",
            "mov edi, r15d",
            "mov rsi, r13",
            "mov edx, r14d",
            "mov r10d, {no_signal}",
            "xor r8d, r8d",
            "xor r9d, r9d",
            "mov eax, {send}",
            "syscall",
            "mov edi, 1",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            no_signal = const libc::MSG_NOSIGNAL,
            send = const libc::SYS_sendto,
            exit = const libc::SYS_exit_group,
        )
    }

    impl LastCalls<'_> {
        /// Makes them. From the first one on a failure ends the process, and `message` goes to the `socket`: what it begins
        /// with, then, in the rest of [`FRONT`], the number of the call and its error, as this machine writes an `i32`, then
        /// what is behind that.
        ///
        /// Only for a program with a single thread, that has not changed its environment and has no signal handlers.
        ///
        /// # Errors
        /// What kept it from beginning: nothing has changed then. `ENOTSUP` where the program is not laid out as ours are.
        #[must_use]
        pub fn make(self, socket: BorrowedFd<'_>, message: &mut [u8]) -> io::Error {
            let Err(err) = self.try_to_make(socket, message);
            err
        }

        fn try_to_make(self, socket: BorrowedFd<'_>, message: &mut [u8]) -> io::Result<Infallible> {
            let unsupported = || io::Error::from_raw_os_error(libc::ENOTSUP);
            let segments = exe_file::segments().ok_or_else(unsupported)?;
            let map = exe_file::memory_map(&segments, self.own_file).ok_or_else(unsupported)?;
            let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
                return Err(unsupported());
            };
            let image = first.start..last.start + last.length;

            let filter =
                self.filter.map(|(code, flags)| Ok::<_, io::Error>((seccomp::program(code)?, flags)));
            let filter = filter.transpose()?;
            let capabilities = self.capabilities.map(capability::in_kernel_form);
            let (args, env) = (pointers(self.args), pointers(self.env));
            let mut calls = Vec::with_capacity(5);
            let mut add = |number, args| calls.push(Call { number, args });
            add(libc::SYS_munmap, [image.start, image.len(), 0, 0, 0]);
            let map_at = (&raw const map) as usize;
            add(libc::SYS_prctl, [PR_SET_MM as usize, PR_SET_MM_MAP as usize, map_at, size_of_val(&map), 0]);
            if let Some((program, flags)) = &filter {
                let at = ptr::from_ref(program) as usize;
                add(libc::SYS_seccomp, [seccomp::SET_MODE_FILTER as usize, *flags as usize, at, 0, 0]);
            }
            if let Some((header, data)) = &capabilities {
                add(libc::SYS_capset, [ptr::from_ref(header) as usize, data.as_ptr() as usize, 0, 0, 0]);
            }
            let (program, args_at, env_at) = (self.program.as_ptr(), args.as_ptr(), env.as_ptr());
            add(libc::SYS_execve, [program as usize, args_at as usize, env_at as usize, 0, 0]);

            // What the calls read has to be there when the program has gone: on the stack, or in the heap behind it.
            let code = self.filter.map_or(ptr::null(), |(code, _)| code.as_ptr().cast());
            let texts = args.iter().chain(&env).copied();
            let read = [
                program,
                code,
                calls.as_ptr().cast(),
                message.as_ptr().cast(),
                args_at.cast(),
                env_at.cast(),
            ];
            if texts.chain(read).any(|at| image.contains(&(at as usize))) || message.len() < FRONT {
                return Err(unsupported());
            }
            let address = one_after_the_other as *const () as usize;
            let start = exe_file::map_code(&segments, address..address + LENGTH, self.own_file)?;
            // SAFETY: the same code is there, which takes exactly these arguments and needs nothing else. All that the calls
            // refer to lives in this frame and those of the callers, which never go on.
            let run: extern "C" fn(*const Call, *mut u8, u32, i32) -> ! =
                unsafe { std::mem::transmute(start) };
            let length = u32::try_from(message.len()).unwrap_or(0);
            run(calls.as_ptr(), message.as_mut_ptr(), length, socket.as_raw_fd())
        }
    }
}

#[cfg(all(test, target_arch = "x86_64", target_feature = "crt-static"))]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read as _;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Output};

    use crate::exe_file::tests::read_only;

    /// Starts one of the ignored tests below, in a process of its own and in that one's first thread, with a socket as
    /// standard input. Returns what it did and what the socket said.
    fn start(test: &str) -> (Output, Vec<u8>) {
        let (mut ours, theirs) = UnixStream::pair().expect("make a pair");
        let name = format!("last_calls::tests::{test}");
        let mut command = Command::new("/proc/self/exe");
        command.args(["--ignored", "--exact", &name, "--test-threads=1"]).stdin(OwnedFd::from(theirs));
        let output = command.output().expect("start this program again");
        drop(command);
        let mut said = Vec::new();
        ours.read_to_end(&mut said).expect("read what it said");
        (output, said)
    }

    fn execute(program: &CStr, args: &[&str], filter: Option<(&[Instruction], u32)>) -> io::Error {
        // Words of the program itself would be gone.
        let program = program.to_owned();
        let file = read_only(&File::open("/proc/self/exe").expect("open this program"));
        let args: Vec<CString> = args.iter().map(|arg| CString::new(*arg).expect("an argument")).collect();
        let capabilities = Some(Sets { inheritable: 1, ..Sets::default() });
        let own_file = file.as_fd();
        let calls = LastCalls {
            own_file,
            filter,
            capabilities,
            program: &program,
            args: &args,
            env: &[c"A=b".to_owned()],
        };
        calls.make(io::stdin().as_fd(), &mut Vec::from(*b"x________more"))
    }

    #[test]
    fn a_program_that_is_our_own_is_in_the_other_mount() {
        let (output, said) = start("executes_itself");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && out.contains("1 passed"), "{output:?}");
        assert_eq!(said, b"");
    }

    #[test]
    #[ignore = "run by the test above"]
    fn executes_itself() {
        let next = ["test", "--ignored", "--exact", "last_calls::tests::looks_around", "--test-threads=1"];
        panic!("{}", execute(c"/proc/self/exe", &next, None));
    }

    #[test]
    #[ignore = "run by the one above"]
    fn looks_around() {
        let flags = nix::sys::statvfs::statvfs("/proc/self/exe").expect("look at its file system").flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
        assert_eq!(std::env::vars().collect::<Vec<_>>(), [("A".to_owned(), "b".to_owned())]);
        assert_eq!(crate::capability::get().expect("ask").inheritable, 1);
    }

    #[test]
    fn what_fails_is_told() {
        for (test, call, err) in [
            ("executes_nothing", libc::SYS_execve, libc::ENOENT),
            ("has_no_filter", libc::SYS_seccomp, libc::EINVAL),
        ] {
            let (output, said) = start(test);
            let call = i32::try_from(call).expect("a number").to_ne_bytes();
            assert_eq!(said, [b"x", &call[..], &err.to_ne_bytes(), b"more"].concat(), "{output:?}");
            assert_eq!(output.status.code(), Some(1), "{output:?}");
        }
    }

    #[test]
    #[ignore = "run by the test above"]
    fn executes_nothing() {
        panic!("{}", execute(c"/no/such/program", &[], None));
    }

    #[test]
    #[ignore = "run by the test above"]
    fn has_no_filter() {
        panic!("{}", execute(c"/proc/self/exe", &[], Some((&[], 0))));
    }
}
