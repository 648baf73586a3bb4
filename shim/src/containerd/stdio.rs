//! Where a process's streams lead: fifos, a file, or a program that logs, as containerd's URIs say.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid, fchown, pipe2, read};
use sys::command::with_clean_signals;

use super::status::{Code, Status};

/// What a client asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
    pub terminal: bool,
}

/// Where one stream leads.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Nowhere,
    Fifo(PathBuf),
    File(PathBuf),
    Program { path: PathBuf, arguments: Vec<String>, says_ready: bool },
}

/// Our ends of a process's pipes.
#[derive(Default)]
pub struct Ends {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// For whom the streams are.
pub struct Owner<'a> {
    pub namespace: &'a str,
    pub id: &'a str,
    /// Who owns the pipes: the container's root.
    pub uid: u32,
    pub gid: u32,
}

/// An open target, and its other end where it is a fifo.
pub struct Sink {
    pub to: OwnedFd,
    pub reader: Option<File>,
}

impl Wanted {
    /// Gives the runtime, and so the payload, its streams; ours are the other ends.
    pub fn prepare(&self, command: &mut Command, owner: &Owner<'_>) -> Result<Ends> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut ends = Ends::default();
        if self.terminal {
            return Ok(ends);
        }
        if let Target::Program { path, arguments, says_ready } = Target::of(&self.stdout)? {
            let [out, err] = log_to(&path, &arguments, says_ready, owner)?;
            command.stdout(out).stderr(err);
            return Ok(ends);
        }
        if !self.stdin.is_empty() {
            let (theirs, ours) = pipe(owner)?;
            command.stdin(theirs);
            ends.stdin = Some(ours);
        }
        if !self.stdout.is_empty() {
            let (ours, theirs) = pipe(owner)?;
            command.stdout(theirs);
            ends.stdout = Some(ours);
        }
        if !self.stderr.is_empty() {
            let (ours, theirs) = pipe(owner)?;
            command.stderr(theirs);
            ends.stderr = Some(ours);
        }
        Ok(ends)
    }

    /// Where stdout and stderr lead; both into the file where stdout is one.
    pub fn sinks(&self) -> Result<[Option<Sink>; 2]> {
        let out = Target::of(&self.stdout)?;
        if let Target::File(path) = &out {
            return Ok([Some(to_file(path)?), Some(to_file(path)?)]);
        }
        let err = if self.terminal { Target::Nowhere } else { Target::of(&self.stderr)? };
        Ok([open(out)?, open(err)?])
    }

    /// The stdin fifo: its end to read, and one to write that keeps it open until `CloseIO`.
    pub fn source(&self) -> Result<Option<(OwnedFd, File)>> {
        if self.stdin.is_empty() {
            return Ok(None);
        }
        let path = Path::new(self.stdin.strip_prefix("fifo://").unwrap_or(&self.stdin));
        let from = open_end(path, false)?;
        Ok(Some((from.into(), open_end(path, true)?)))
    }
}

fn open(target: Target) -> Result<Option<Sink>> {
    match target {
        Target::Fifo(path) => {
            // The reading end first: then the other one opens without waiting.
            let reader = open_end(&path, false)?;
            Ok(Some(Sink { to: open_end(&path, true)?.into(), reader: Some(reader) }))
        }
        Target::File(path) => to_file(&path).map(Some),
        Target::Nowhere | Target::Program { .. } => Ok(None),
    }
}

fn open_end(path: &Path, write: bool) -> Result<File> {
    File::options()
        .read(!write)
        .write(write)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | if write { libc::O_APPEND } else { 0 })
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

fn to_file(path: &Path) -> Result<Sink> {
    let what = || format!("open {}", path.display());
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(what)?;
    }
    let file = File::options().append(true).create(true).mode(0o644).open(path).with_context(what)?;
    Ok(Sink { to: file.into(), reader: None })
}

/// A pipe that the container's root may open again as /dev/stdout.
fn pipe(owner: &Owner<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    if (owner.uid, owner.gid) != (0, 0) {
        fchown(&read, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
            .context("chown a pipe")?;
    }
    Ok((read, write))
}

/// Starts the program that logs: stdout and stderr on its descriptors 3 and 4, and on 5 it says that it is ready.
fn log_to(path: &Path, arguments: &[String], says_ready: bool, owner: &Owner<'_>) -> Result<[OwnedFd; 2]> {
    let (out, their_out) = pipe(owner)?;
    let (err, their_err) = pipe(owner)?;
    let (ready, their_ready) = pipe2(OFlag::O_CLOEXEC).context("make a pipe")?;
    let mut command = Command::new(path);
    command.args(arguments).env("CONTAINER_ID", owner.id).env("CONTAINER_NAMESPACE", owner.namespace);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    with_clean_signals(&mut command);
    sys::command::with_descriptors(&mut command, vec![out, err, their_ready]);
    command.spawn().with_context(|| format!("execute the logging program {}", path.display()))?;
    drop(command);
    let mut waits = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
    let came = poll(&mut waits, PollTimeout::from(10_000_u16)).unwrap_or(0) > 0;
    if !came || (read(&ready, &mut [0; 1]).unwrap_or(0) == 0 && says_ready) {
        let message = format!("logging program {} did not say that it is ready", path.display());
        return Err(Status::error(Code::FailedPrecondition, message));
    }
    Ok([their_out, their_err])
}

impl Target {
    fn of(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::Nowhere);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(Self::Fifo(text.into())) };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = PathBuf::from(decode(path));
        Ok(match scheme {
            "fifo" => Self::Fifo(path),
            "file" => Self::File(path),
            "binary" | "binary-v2" => {
                let mut arguments = Vec::new();
                for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    arguments.push(decode(key));
                    if !value.is_empty() {
                        arguments.push(decode(value));
                    }
                }
                Self::Program { path, arguments, says_ready: scheme == "binary-v2" }
            }
            _ => {
                let message = format!("unknown STDIO scheme {scheme}");
                return Err(Status::error(Code::InvalidArgument, message));
            }
        })
    }
}

/// `%2F` and `+` of a URI.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        rest = more;
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, more.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A descriptor for the other direction of a terminal, watched on its own.
pub fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    sys::inherited::duplicate(fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        assert_eq!(Target::of("").unwrap(), Target::Nowhere);
        assert_eq!(Target::of("/run/f").unwrap(), Target::Fifo("/run/f".into()));
        assert_eq!(Target::of("file:///a%20b").unwrap(), Target::File("/a b".into()));
        assert_eq!(
            Target::of("binary:///usr/bin/log?--dir=%2Fvar&-v").unwrap(),
            Target::Program {
                path: "/usr/bin/log".into(),
                arguments: vec!["--dir".into(), "/var".into(), "-v".into()],
                says_ready: false
            }
        );
        assert!(Target::of("tcp://host").is_err());
        assert_eq!(decode("100%"), "100%");
    }
}
