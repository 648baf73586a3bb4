//! Which namespaces a container gets: new ones, and those of others that it joins.

pub mod net_devices;
mod rtnetlink;
pub mod time;
pub mod user;

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::libc;

use crate::spec::linux::Namespace;

/// The kinds by their names in config.json, with `CLONE_NEW…` and the file below `/proc/PID/ns`. In the order in
/// which they are joined: the user namespace first, since it owns the others and gives the rights over them; the
/// mount namespace last, since the others are opened by path.
const KINDS: [(&str, i32, &str); 8] = [
    ("user", libc::CLONE_NEWUSER, "user"),
    ("pid", libc::CLONE_NEWPID, "pid"),
    ("ipc", libc::CLONE_NEWIPC, "ipc"),
    ("uts", libc::CLONE_NEWUTS, "uts"),
    ("network", libc::CLONE_NEWNET, "net"),
    ("cgroup", libc::CLONE_NEWCGROUP, "cgroup"),
    ("time", sys::clone::CLONE_NEWTIME, "time"),
    ("mount", libc::CLONE_NEWNS, "mnt"),
];

/// What `linux.namespaces` asks for.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// `CLONE_NEW…` of those to make.
    pub new: i32,
    /// Those to join, in order.
    pub joined: Vec<Joined>,
}

/// A namespace to join.
#[derive(Debug)]
pub struct Joined {
    /// `CLONE_NEW…`.
    pub flag: i32,
    path: PathBuf,
    fd: OwnedFd,
}

impl Namespaces {
    /// Reads the list and opens what is to be joined.
    ///
    /// # Errors
    /// An unknown or repeated kind, a path that is no namespace of that kind.
    pub fn read(list: &[Namespace]) -> Result<Self> {
        let mut namespaces = Self::default();
        for namespace in list {
            let Some(&(kind, flag, _)) = KINDS.iter().find(|(kind, ..)| *kind == namespace.kind) else {
                fault!(Usage, "linux.namespaces: unknown type {:?}", namespace.kind)
            };
            if namespaces.has(flag) {
                fault!(Usage, "linux.namespaces: {kind} is there twice");
            }
            if namespace.path.as_os_str().is_empty() {
                namespaces.new |= flag;
            } else {
                let path = namespace.path.clone();
                let file =
                    File::open(&path).with_context(|| format!("open {kind} namespace {}", path.display()))?;
                namespaces.joined.push(Joined { flag, path, fd: file.into() });
            }
        }
        namespaces.joined.sort_by_key(|joined| KINDS.iter().position(|(_, flag, _)| *flag == joined.flag));
        Ok(namespaces)
    }

    /// Whether the container has a namespace of this kind apart from the runtime's.
    #[must_use]
    pub fn has(&self, flag: i32) -> bool {
        self.new & flag != 0 || self.joins(flag)
    }

    /// Whether it joins one of this kind.
    #[must_use]
    pub fn joins(&self, flag: i32) -> bool {
        self.joined.iter().any(|joined| joined.flag == flag)
    }

    /// The network namespace of the container whose process is `pid`: the one it joins, or its own new one.
    ///
    /// # Errors
    /// The process is gone.
    pub fn network(&self, pid: i32) -> Result<OwnedFd> {
        match self.joined.iter().find(|joined| joined.flag == libc::CLONE_NEWNET) {
            Some(joined) => Ok(joined.fd.try_clone()?),
            None => {
                let path = format!("/proc/{pid}/ns/net");
                Ok(File::open(&path).with_context(|| format!("open {path}"))?.into())
            }
        }
    }

    /// All kinds that it has apart from the runtime's.
    #[must_use]
    pub fn all(&self) -> i32 {
        self.joined.iter().fold(self.new, |all, joined| all | joined.flag)
    }

    /// Those that one `clone3(2)` makes. The cgroup namespace is made once the child is in its cgroup, which becomes
    /// the root of it; the time namespace once its clocks are set.
    #[must_use]
    pub fn at_clone(&self) -> i32 {
        self.new & !(libc::CLONE_NEWCGROUP | sys::clone::CLONE_NEWTIME)
    }

    /// Whether it joins one that only children of who joins it are in (PID), that has to be joined before others are
    /// made (user), or that may not be the new user namespace's and so not for its root to join: the process that is cloned
    /// first joins them then and makes a sibling, which goes on in its place.
    #[must_use]
    pub fn joins_before_birth(&self) -> bool {
        let others = || self.joined.iter().any(|joined| joined.flag != libc::CLONE_NEWNS);
        self.joins(libc::CLONE_NEWUSER)
            || self.joins(libc::CLONE_NEWPID)
            || (self.new & libc::CLONE_NEWUSER != 0 && others())
    }

    /// Joins what is joined before birth; returns `CLONE_NEW…` of all that has been. With a user namespace the others come
    /// before it, for they may be the host's; what is refused then is its own, and is joined in it.
    ///
    /// # Errors
    /// Whatever `setns(2)` says of the user and PID namespace, naming the path.
    pub fn join_before_birth(&self) -> Result<i32> {
        let (user, pid) = (libc::CLONE_NEWUSER, libc::CLONE_NEWPID);
        let mut done = 0;
        if self.has(user) {
            for joined in self.joined.iter().filter(|joined| joined.flag & (user | libc::CLONE_NEWNS) == 0) {
                if joined.enter().is_ok() {
                    done |= joined.flag;
                }
            }
        }
        let left = (user | pid) & !done;
        for joined in self.joined.iter().filter(|joined| joined.flag & left != 0) {
            joined.enter()?;
            done |= joined.flag;
        }
        Ok(done)
    }

    /// The user namespace that it joins.
    #[must_use]
    pub fn joined_user(&self) -> Option<BorrowedFd<'_>> {
        self.joined.iter().find(|joined| joined.flag == libc::CLONE_NEWUSER).map(|joined| joined.fd.as_fd())
    }

    /// Whether the process waits until the runtime has let it in: until its maps are written it is nobody, and until it is
    /// known as the sibling that goes on nobody listens. The runtime sets its limits then, for it never has the right.
    #[must_use]
    pub fn wait_for_admission(&self) -> bool {
        self.joins_before_birth() || self.has(libc::CLONE_NEWUSER) || !nix::unistd::geteuid().is_root()
    }

    /// Whether the process can make its network namespace by itself after `clone3(2)`. Nothing else takes the kernel
    /// as long, and the runtime has other things to do meanwhile. A new user namespace has to be its owner from
    /// birth, and a process that joins others is not the one that is cloned first.
    #[must_use]
    pub fn can_make_network_late(&self) -> bool {
        self.new & libc::CLONE_NEWNET != 0
            && self.new & libc::CLONE_NEWUSER == 0
            && !self.joins_before_birth()
    }
}

impl Joined {
    /// Enters it.
    ///
    /// # Errors
    /// Whatever `setns(2)` says, naming the path.
    pub fn enter(&self) -> Result<()> {
        sys::namespace::join(self.fd.as_fd(), self.flag)
            .with_context(|| format!("join namespace {}", self.path.display()))
    }
}
