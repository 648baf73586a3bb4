//! `NOTIFY_SOCKET` (sd_notify(3)): where the runtime is a service of systemd, the container's program gets a socket of its
//! own to say that it is ready, at the place where it is under runc. What it says is passed on with the pid of the process
//! that the manager is to watch.

use std::ffi::{CString, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::container::directory::{Directory, NOTIFY};
use crate::log;
use crate::spec::document::Mount;

const VARIABLE: &str = "NOTIFY_SOCKET";
const NAME: &str = "notify.sock";
/// Where the container sees it.
pub const INSIDE: &str = "/run/notify";
/// How long the manager may take to read what we said, in milliseconds: it looks at who said it.
const PATIENCE: u16 = 30_000;

/// The socket of a container that was not ready yet.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    manager: OsString,
}

fn manager() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|manager| !manager.is_empty())
}

/// Whether the container is to have a socket: we have one ourselves.
#[must_use]
pub fn is_wanted() -> bool {
    manager().is_some()
}

/// What tells the program of its socket.
#[must_use]
pub fn variable() -> CString {
    CString::new(format!("{VARIABLE}={INSIDE}/{NAME}")).unwrap_or_default()
}

/// Where the socket of a container is on the host.
#[must_use]
pub fn directory(container: &Directory) -> PathBuf {
    container.file_path(NOTIFY)
}

/// The mount by which the container sees that directory.
#[must_use]
pub fn mount(directory: PathBuf) -> Mount {
    Mount {
        destination: INSIDE.into(),
        kind: "bind".to_owned(),
        source: directory,
        options: ["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    }
}

/// Makes that directory.
///
/// # Errors
/// Whatever the file system says.
pub fn prepare(container: &Directory) -> Result<()> {
    let path = directory(container);
    match DirBuilder::new().mode(0o755).create(&path) {
        Err(err) if err.kind() != ErrorKind::AlreadyExists => {
            Err(err).with_context(|| format!("make {}", path.display()))
        }
        _ => Ok(()),
    }
}

impl NotifySocket {
    /// Listens, where there is a manager to tell and the container was made to see the socket.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn listen(container: &Directory) -> Result<Option<Self>> {
        let path = self::directory(container);
        let (Some(manager), Ok(opened)) = (manager(), File::open(&path)) else { return Ok(None) };
        // A socket's name is short.
        let name = format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd());
        let bound = || -> io::Result<UnixDatagram> {
            let _ = fs::remove_file(&name);
            let socket = UnixDatagram::bind(&name)?;
            // Whoever the program is.
            fs::set_permissions(&name, Permissions::from_mode(0o777))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = bound().with_context(|| format!("listen on {}", path.join(NAME).display()))?;
        Ok(Some(Self { socket, manager }))
    }

    /// Waits until the program is ready, which is passed on with its `pid`, or the process of `pidfd` has ended. A manager
    /// who cannot be told is warned of: the container runs.
    pub fn wait(&self, pidfd: BorrowedFd<'_>, pid: i32) {
        if let Err(err) = self.try_wait(pidfd, pid) {
            log::warn(&format!("{err:#}"));
        }
    }

    fn try_wait(&self, pidfd: BorrowedFd<'_>, pid: i32) -> Result<()> {
        loop {
            let mut fds = [self.socket.as_fd(), pidfd].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(err) => return Err(err).context("wait until the container is ready"),
            }
            if self.try_pass_on(pid)? {
                return self.barrier();
            }
            if fds[1].any().unwrap_or(false) {
                return Ok(());
            }
        }
    }

    /// Passes on what has been said by now; whether there is nothing more to wait for. `pid` is who is to be watched.
    #[must_use]
    pub fn pass_on(&self, pid: i32) -> bool {
        self.try_pass_on(pid).unwrap_or_else(|err| {
            log::warn(&format!("{err:#}"));
            true
        })
    }

    fn try_pass_on(&self, pid: i32) -> Result<bool> {
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            let ready =
                message[..length].split(|byte| *byte == b'\n').find(|line| line.starts_with(b"READY="));
            if let Some(ready) = ready {
                log::debug(format_args!("the container is ready, process {pid}"));
                let mut text = ready.to_vec();
                text.extend_from_slice(format!("\nMAINPID={pid}\n").as_bytes());
                self.manager()?.send(&text).with_context(|| self.whom())?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Waits until the manager has read it all (sd_notify_barrier(3)): it would not know a sender that has ended.
    fn barrier(&self) -> Result<()> {
        let (reader, writer) = io::pipe().context("make a pipe")?;
        sys::pass_fd::send(self.manager()?, b"BARRIER=1", writer.as_fd()).with_context(|| self.whom())?;
        drop(writer);
        let mut end = [PollFd::new(reader.as_fd(), PollFlags::empty())];
        if poll(&mut end, PollTimeout::from(PATIENCE)) == Ok(0) {
            log::warn("the service manager has not answered for 30 s that it knows of the container's start");
        }
        Ok(())
    }

    fn manager(&self) -> Result<UnixDatagram> {
        let connect = || -> io::Result<UnixDatagram> {
            let address = match self.manager.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(&self.manager)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            Ok(socket)
        };
        connect().with_context(|| self.whom())
    }

    fn whom(&self) -> String {
        format!("tell {VARIABLE} {}", self.manager.display())
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
