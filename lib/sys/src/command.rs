//! What a `std::process::Command` must not inherit from us.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Lets the program start with no signal blocked. The standard library passes our mask on, and who waits for signals
/// on a descriptor blocks them: a payload that inherits that is deaf to SIGTERM.
pub fn with_clean_signals(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only sigprocmask(2) is called, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(Into::into)
        })
    }
}

/// Gives the program these descriptors (eight at most) as 3, 4, 5 and so on. The caller has descriptors of its own under
/// those numbers: the standard library's pipe to the child must not be one of them.
pub fn with_descriptors(command: &mut Command, descriptors: Vec<OwnedFd>) -> &mut Command {
    const MOST: usize = 8;
    // SAFETY: between fork and exec only fcntl(2) and dup2(2) are called, which are async-signal-safe; nothing allocates.
    unsafe {
        command.pre_exec(move || {
            let mut copies = [-1; MOST];
            for (copy, fd) in copies.iter_mut().zip(&descriptors) {
                // Above every number that is given away, so that none is overwritten before it is placed.
                *copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16);
            }
            for (number, copy) in (3..).zip(copies).take(descriptors.len()) {
                if copy < 0 || libc::dup2(copy, number) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        })
    }
}

/// Gives the program an environment variable with its own pid, which only the new process knows. To be called last: the
/// program, arguments and environment of `command` are taken as they are now; the program is a path.
///
/// # Errors
/// A NUL byte in one of the strings.
pub fn with_own_pid<'a>(command: &'a mut Command, name: &str) -> std::io::Result<&'a mut Command> {
    const DIGITS: usize = 10;
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(std::io::Error::other);
    let program = text(command.get_program())?;
    let mut arguments = vec![program.clone()];
    for argument in command.get_args() {
        arguments.push(text(argument)?);
    }
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => drop(variables.insert(key.into(), value.into())),
            None => drop(variables.remove(key)),
        }
    }
    variables.remove(OsStr::new(name));
    let mut environment = Vec::new();
    for (key, value) in variables {
        environment.push(CString::new([key.as_bytes(), b"=", value.as_bytes()].concat())?);
    }
    // Room for the digits, and zeros after them.
    let mut own = [name.as_bytes(), b"=", &[0; DIGITS + 1]].concat();
    let start = name.len() + 1;
    // SAFETY: between fork and exec only getpid(2) and execve(2) are called, which are async-signal-safe; the two arrays
    // of pointers are made before, end with a null pointer, and point to NUL-terminated strings that this closure owns.
    unsafe {
        let mut pointers = Pointers {
            arguments: null_ended(arguments.iter().map(|text| text.as_ptr())),
            environment: null_ended(environment.iter().map(|text| text.as_ptr()).chain([std::ptr::null()])),
        };
        let at = environment.len();
        command.pre_exec(move || {
            let (pointers, _owned) = (&mut pointers, (&arguments, &environment));
            let mut pid = libc::getpid().unsigned_abs();
            let digits = pid.checked_ilog10().unwrap_or(0) as usize + 1;
            for place in own[start..start + digits].iter_mut().rev() {
                *place = b'0' + u8::try_from(pid % 10).unwrap_or(0);
                pid /= 10;
            }
            pointers.environment[at] = own.as_ptr().cast();
            libc::execve(program.as_ptr(), pointers.arguments.as_ptr(), pointers.environment.as_ptr());
            Err(std::io::Error::last_os_error())
        });
    }
    Ok(command)
}

struct Pointers {
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
}

// SAFETY: the pointers lead to strings that the same closure owns, and only it uses them.
unsafe impl Send for Pointers {}
// SAFETY: as above; there is no shared use.
unsafe impl Sync for Pointers {}

fn null_ended(pointers: impl Iterator<Item = *const libc::c_char>) -> Vec<*const libc::c_char> {
    pointers.chain([std::ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_knows_its_pid_by_a_variable() {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "[ $OWN = $$ ] && [ $OTHER = x ] && echo $OWN"])
            .env("OTHER", "x")
            .env("OWN", "1");
        command.stdout(std::process::Stdio::piped());
        let child = with_own_pid(&mut command, "OWN").unwrap().spawn().unwrap();
        let pid = child.id();
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), pid.to_string());
        let mut missing = Command::new("/nonexistent/program");
        assert!(with_own_pid(&mut missing, "OWN").unwrap().spawn().is_err());
    }

    #[test]
    fn descriptors_arrive_under_their_numbers() {
        use std::io::{Read as _, Seek as _, Write as _};
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"three").unwrap();
        file.rewind().unwrap();
        // The standard library's own pipe must stand above.
        let _held: Vec<_> = (0..8).map(|_| tempfile::tempfile().unwrap()).collect();
        let mut command = Command::new("/bin/cat");
        command.arg("/proc/self/fd/3").stdout(std::process::Stdio::piped());
        let mut child = with_descriptors(&mut command, vec![file.into()]).spawn().unwrap();
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        child.wait().unwrap();
        assert_eq!(text, "three");
    }
}
