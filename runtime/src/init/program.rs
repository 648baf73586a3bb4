//! Finding the program and becoming it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, stat};
use nix::unistd::{AccessFlags, execve, faccessat, fchdir, getcwd};
use sys::capability::Sets;
use sys::last_calls::LastCalls;
use sys::path::{Root, file_type};

use crate::lifecycle::notify_socket;
use crate::security::capabilities;
use crate::spec::process::Process;
use crate::{own_exe, seccomp};

/// Where programs are looked for when the container's environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process still has to do when it executes its program.
#[derive(Debug)]
pub struct Unfinished<'a> {
    /// Go on from this file, which is our program and cannot be written to (`own_exe`).
    pub own_program: BorrowedFd<'a>,
    /// Install this system call filter, which has no listener.
    pub filter: Option<&'a seccomp::Program>,
    /// Have these capabilities only.
    pub capabilities: Option<Sets>,
}

/// What `execve(2)` takes, made ready beforehand.
#[derive(Debug)]
pub struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// Finds the program of `process` in the file system and directory that this process is in, as its user, and
    /// tells it of its `sockets`, and of the one on which it `notifies`.
    ///
    /// # Errors
    /// Faults of kind `CommandNotFound` and `CommandNotExecutable`, in the words by which Docker and Podman tell
    /// 127 from 126.
    pub fn find(process: &Process, root: &Root, sockets: u32, notifies: bool) -> Result<Self> {
        let args =
            process.args.iter().map(|arg| CString::new(arg.as_str())).collect::<Result<Vec<_>, _>>()?;
        let name = process.args.first().map_or("", String::as_str);
        let path = look_up(name, path_variable(&process.env))?;
        let mut env = environment(&process.env, process.user.uid, root)?;
        if sockets > 0 {
            // The first process of its PID namespace, as runc and crun say whatever the namespace.
            env.extend([CString::new(format!("LISTEN_FDS={sockets}"))?, c"LISTEN_PID=1".to_owned()]);
        }
        if notifies {
            env.push(notify_socket::variable());
        }
        Ok(Self { path: CString::new(path.as_os_str().as_bytes())?, args, env })
    }

    /// Its environment.
    #[must_use]
    pub fn env(&self) -> &[CString] {
        &self.env
    }

    /// Becomes the program.
    ///
    /// # Errors
    /// As [`Self::find`], for what only the kernel can see: a wrong format, a missing interpreter.
    pub fn execute(&self) -> Result<Infallible> {
        let err = match execve(&self.path, &self.args, &self.env) {
            Ok(never) => return Ok(never),
            Err(err) => err,
        };
        refused(&self.path.to_string_lossy(), err)
    }

    /// The calls by which a process finishes what is `unfinished` and becomes the program.
    #[must_use]
    pub fn last_calls<'a>(&'a self, unfinished: &Unfinished<'a>) -> LastCalls<'a> {
        LastCalls {
            own_file: unfinished.own_program,
            filter: unfinished.filter.map(|filter| (filter.instructions.as_slice(), filter.flags)),
            capabilities: unfinished.capabilities,
            program: &self.path,
            args: &self.args,
            env: &self.env,
        }
    }
}

/// What went wrong in [`Program::last_calls`], at the system call of that number.
#[must_use]
pub fn failure(call: libc::c_long, err: Errno, path: &str) -> anyhow::Error {
    let of_call = |what: &'static str| Err(io::Error::from(err)).context(what);
    let Err(err) = match call {
        libc::SYS_execve => refused(path, err),
        libc::SYS_seccomp => of_call(seccomp::INSTALL),
        libc::SYS_capset => of_call(capabilities::SET),
        _ => of_call(own_exe::GO_ON),
    };
    err.context("container init")
}

fn refused(path: &str, err: Errno) -> Result<Infallible> {
    match err {
        Errno::ENOENT => fault!(CommandNotFound, "exec {path}: no such file or directory"),
        // Docker ends with 126 at these words.
        Errno::ENOTDIR => fault!(CommandNotExecutable, "exec {path}: not a directory"),
        Errno::EACCES | Errno::EPERM => fault!(CommandNotExecutable, "exec {path}: permission denied"),
        Errno::ENOEXEC => fault!(CommandNotExecutable, "exec {path}: exec format error"),
        err => bail!("exec {path}: {}", err.desc()),
    }
}

fn path_variable(env: &[String]) -> &str {
    env.iter().rev().find_map(|line| line.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

fn look_up(name: &str, path: &str) -> Result<PathBuf> {
    if name.contains('/') {
        return match is_program(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(Errno::ENOENT) => {
                fault!(CommandNotFound, "exec: {name:?}: stat {name}: no such file or directory")
            }
            Err(Errno::ENOTDIR) => {
                fault!(CommandNotExecutable, "exec: {name:?}: stat {name}: not a directory")
            }
            Err(Errno::EISDIR) => {
                fault!(CommandNotExecutable, "exec: {name:?}: is a directory: permission denied")
            }
            Err(Errno::EACCES) => fault!(CommandNotExecutable, "exec: {name:?}: permission denied"),
            Err(err) => bail!("exec: {name:?}: {}", err.desc()),
        };
    }
    let mut denied = false;
    for directory in path.split(':').filter(|_| !name.is_empty()) {
        // An empty part of PATH is the current directory.
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = Path::new(directory).join(name);
        match is_program(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        fault!(CommandNotExecutable, "exec: {name:?}: permission denied");
    }
    fault!(CommandNotFound, "exec: {name:?}: executable file not found in $PATH")
}

fn is_program(path: &Path) -> Result<(), Errno> {
    let kind = file_type(stat(path)?.st_mode);
    if kind == SFlag::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS)
}

/// The environment, with `HOME` from the container's own account file where it is not set.
fn environment(env: &[String], uid: u32, root: &Root) -> Result<Vec<CString>> {
    let mut lines = Vec::with_capacity(env.len() + 1);
    let mut has_home = false;
    for (index, line) in env.iter().enumerate() {
        let name = line.split_once('=').map_or(line.as_str(), |(name, _)| name);
        // The last of two equal names wins.
        let later = env[index + 1..]
            .iter()
            .any(|other| other.split_once('=').is_some_and(|(other, _)| other == name));
        if !later {
            has_home |= name == "HOME" && line.len() > "HOME=".len();
            lines.push(CString::new(line.as_str()).context("process.env")?);
        }
    }
    if !has_home {
        let home =
            contracts::passwd::resolve(root, &uid.to_string()).map_or_else(|_| "/".into(), |user| user.home);
        lines.retain(|line| line.as_bytes() != b"HOME=");
        lines.push(CString::new(format!("HOME={home}")).context("home directory")?);
    }
    Ok(lines)
}

/// Enters the working directory, and makes sure that it is in the container: a `/proc/self/fd/N` of a descriptor that
/// the runtime has open would be a way out (CVE-2024-21626), so no such link is followed.
///
/// # Errors
/// It does not exist, or is outside.
pub fn enter_directory(root: &Root, cwd: &Path) -> Result<()> {
    root.open_in(cwd, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty())
        .and_then(|directory| Ok(fchdir(directory)?))
        .map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or_default()))
        .with_context(|| format!("chdir to cwd ({cwd:?}) set in config.json"))?;
    // The kernel says ENOENT, or prefixes "(unreachable)", for what is not below the root.
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => bail!("cwd {:?} is outside of the container's mount namespace root", OsStr::new(cwd)),
    }
}
