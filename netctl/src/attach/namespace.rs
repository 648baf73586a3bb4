//! The network namespace of an attachment: made, mounted at `STATE/net/ns/<id>`, where the runtime joins it and `ip`
//! and `nsenter` can, and let go.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::ids::Maps;
use nix::errno::Errno;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::record::Record;
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::netlink::socket::Socket;
use crate::state::{self, State};

const OWN: &str = "/proc/self/ns/net";
const LOOPBACK: u32 = 1;

/// The directories below `STATE/net`: network namespaces, and the user namespaces that were made as their owners.
pub const KINDS: [&str; 2] = ["ns", "userns"];

/// Where the namespace of `id` is mounted.
pub fn path(state: &State, id: &str) -> PathBuf {
    state.path(&[KINDS[0], id])
}

/// An open namespace with a socket inside.
#[derive(Debug)]
pub struct Namespace {
    /// The namespace.
    pub file: File,
    /// Configures what is inside.
    pub inside: Socket,
}

/// Makes the namespace with loopback up and notes it in the record. Without IPv6 on its networks the container gets none at
/// all: programs that try `::` first would otherwise wait for answers that cannot come.
///
/// # Errors
/// No permission; the mount fails.
pub fn make(state: &State, record: &mut Record, ipv6: bool) -> Result<Namespace> {
    let target = place(state, KINDS[0], &record.id)?;
    let mut request = record.request.clone();
    if let Some(maps) = request.id_maps.take() {
        let userns = owned(state, record, &maps, request.userns.as_deref())?;
        record.status.userns = userns;
        let made = open_path(&target)?;
        within(&made.file, || furnish(&made.inside, ipv6))??;
        record.status.netns = Some(target);
        return Ok(made);
    }
    let host = File::open(OWN).with_context(|| format!("open {OWN}"))?;
    sys::namespace::unshare(libc::CLONE_NEWNET).context("make a network namespace")?;
    let made = hold(OWN, &target).and_then(|()| {
        let file = File::open(OWN).with_context(|| format!("open {OWN}"))?;
        let inside = Socket::route()?;
        furnish(&inside, ipv6)?;
        Ok(Namespace { file, inside })
    });
    // Whatever happened: the rest of this process works in the host's namespace.
    sys::namespace::join(host.as_fd(), libc::CLONE_NEWNET)
        .context("return to the host's network namespace")?;
    record.status.netns = Some(target);
    made
}

/// Makes it as the property of a user namespace, so that the container's root has the rights over it: of a new one, which is
/// kept beside it and returned, or of the one at `known`.
fn owned(state: &State, record: &Record, maps: &Maps, known: Option<&Path>) -> Result<Option<PathBuf>> {
    let target = path(state, &record.id);
    let net = |pid: i32| hold(&format!("/proc/{pid}/ns/net"), &target);
    if let Some(known) = known {
        let user = File::open(known).with_context(|| format!("open user namespace {}", known.display()))?;
        return sys::namespace::held(libc::CLONE_NEWNET, Some(user.as_fd()), net)
            .context("make a network namespace")
            .map(|()| None);
    }
    let kept = place(state, KINDS[1], &record.id)?;
    sys::namespace::held(libc::CLONE_NEWUSER | libc::CLONE_NEWNET, None, |pid| {
        maps.write(pid)?;
        hold(&format!("/proc/{pid}/ns/user"), &kept)?;
        net(pid)
    })
    .context("make a user and a network namespace")?;
    Ok(Some(kept))
}

/// Mounts a namespace, which then stays.
fn hold(namespace: &str, target: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(Some(namespace), target, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("mount {namespace} on {}", target.display()))
}

/// What is inside; the process is there.
fn furnish(inside: &Socket, ipv6: bool) -> Result<()> {
    if !ipv6 {
        // Missing where the kernel has no IPv6, which is as good.
        let switch = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
        let _ = OpenOptions::new().write(true).open(switch).and_then(|mut file| {
            use std::io::Write as _;
            file.write_all(b"1")
        });
    }
    let mut batch = Batch::new();
    link::set_up(&mut batch, LOOPBACK, "lo");
    inside.run(&batch)
}

/// Opens the namespace of an attachment that is up.
///
/// # Errors
/// `WrongState` where it has vanished.
pub fn open(state: &State, id: &str) -> Result<Namespace> {
    if !is_mounted(state, id) {
        fault!(WrongState, "the network namespace of {id} has gone: netctl down {id}");
    }
    open_path(&path(state, id))
}

/// Opens any mounted namespace.
///
/// # Errors
/// There is none.
pub fn open_path(target: &Path) -> Result<Namespace> {
    let shown = || format!("open network namespace {}", target.display());
    let file =
        OpenOptions::new().read(true).custom_flags(libc::O_CLOEXEC).open(target).with_context(shown)?;
    let inside = within(&file, Socket::route).with_context(shown)?;
    Ok(Namespace { file, inside: inside? })
}

/// Does something inside a namespace; whatever happens, the rest of this process goes on in the host's.
///
/// # Errors
/// The file is no network namespace, or it may not be joined.
pub fn within<T>(file: &File, work: impl FnOnce() -> T) -> Result<T> {
    let host = File::open(OWN).with_context(|| format!("open {OWN}"))?;
    sys::namespace::join(file.as_fd(), libc::CLONE_NEWNET).context("join the network namespace")?;
    let done = work();
    sys::namespace::join(host.as_fd(), libc::CLONE_NEWNET)
        .context("return to the host's network namespace")?;
    Ok(done)
}

/// Lets the container have IPv6 after all.
///
/// # Errors
/// The namespace cannot be joined.
pub fn allow_ipv6(namespace: &Namespace) -> Result<()> {
    within(&namespace.file, || fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0"))?
        .context("allow IPv6 in the network namespace")
}

/// Whether the namespace is (still) mounted.
pub fn is_mounted(state: &State, id: &str) -> bool {
    File::open(path(state, id)).is_ok_and(|file| sys::mount::is_mount_root(&file).unwrap_or(false))
}

/// Unmounts the namespace, and its owner where that was made for it; the kernel takes it down with all its links once nobody
/// lives in it. Idempotent.
///
/// # Errors
/// The kernel's refusal.
pub fn drop_mount(state: &State, id: &str) -> Result<()> {
    KINDS.iter().try_for_each(|kind| drop_one(&state.path(&[kind, id])))
}

fn drop_one(target: &Path) -> Result<()> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH) {
            // Again: a crash and a repetition may have stacked two.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(err) => return Err(err).with_context(|| format!("unmount {}", target.display())),
        }
    }
    state::remove(target)
}

/// An empty file for the mount of `id`'s namespace of a kind. Its directory is a shared mount of its own, as `ip netns` does
/// with its: what is mounted and unmounted there reaches the other mount namespaces, so that none of them keeps a
/// namespace alive.
fn place(state: &State, kind: &str, id: &str) -> Result<PathBuf> {
    let dir = state.path(&[kind]);
    state::make_dir(&dir)?;
    let opened = File::open(&dir).with_context(|| format!("open {}", dir.display()))?;
    if !sys::mount::is_mount_root(&opened).with_context(|| format!("look at {}", dir.display()))? {
        let none = None::<&str>;
        mount(Some(&dir), &dir, none, MsFlags::MS_BIND, none)
            .and_then(|()| mount(none, &dir, none, MsFlags::MS_SHARED, none))
            .with_context(|| format!("make {} a shared mount", dir.display()))?;
    }
    let target = dir.join(id);
    File::create(&target).with_context(|| format!("make {}", target.display()))?;
    Ok(target)
}

/// Removes the mounts of the directories once no namespace is left.
pub fn forget(state: &State) {
    for dir in KINDS.map(|kind| state.path(&[kind])) {
        if fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none()) {
            let _ = umount2(&dir, MntFlags::MNT_DETACH);
            let _ = fs::remove_dir(&dir);
        }
    }
}
