//! Inside a user namespace: this host's network is not ours to change, so all networks are in a namespace of our own,
//! `STATE/net/host`, which a program of the user's ([`uplink`]) joins to the host's. Everything else works there as it
//! does for root; published ports are opened on the host by that program.

mod pasta;
mod slirp;
mod uplink;

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use contracts::network::Port;
use nix::errno::Errno;
use nix::libc::CLONE_NEWNET;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::attach::record::Record;
use crate::netlink::link;
use crate::netlink::message::Batch;
use crate::netlink::socket::{Socket, errno};
use crate::state::{self, State};

pub use uplink::SERVERS;

/// How long the program of the uplink may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the first user namespace is called; nobody in another one can see it so.
const FIRST: &str = "user:[4026531837]";

/// To the thread that stays in the host's network namespace, once the others are in ours: the kernel lets nobody without
/// rights over the host return there, but what that thread starts has the host's sockets.
static OUTSIDE: OnceLock<Sender<Work>> = OnceLock::new();

/// Why the program that joins our networks to the host's does not run.
static FAILURE: OnceLock<String> = OnceLock::new();

type Work = Box<dyn FnOnce() + Send>;

fn stay_outside() -> Result<()> {
    let (sender, works) = channel::<Work>();
    let stay = move || works.into_iter().for_each(|work| work());
    std::thread::Builder::new().spawn(stay).context("start a thread on the host's side")?;
    let _ = OUTSIDE.set(sender);
    Ok(())
}

/// Does something on the host's side.
fn outside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (answer, answered) = channel();
    let sender = OUTSIDE.get().context("not in a user's network")?;
    let work = Box::new(move || drop(answer.send(work())));
    sender.send(work).ok().context("the host's side has gone")?;
    answered.recv().context("the host's side has gone")?
}

fn file(state: &State) -> PathBuf {
    state.path(&["host"])
}

/// Whether this command works in such a namespace.
pub fn is_used() -> bool {
    OUTSIDE.get().is_some()
}

/// Enters the network namespace that an earlier command has made in this user namespace, if one has; and has the
/// program that connects it run, with the ports of all who are attached. That it cannot be started is told by
/// [`expect`].
///
/// # Errors
/// The namespace cannot be joined.
pub fn enter(state: &State) -> Result<()> {
    let path = file(state);
    let Ok(own) = File::open(&path) else { return Ok(()) };
    if !sys::mount::is_mount_root(&own).unwrap_or(false) {
        // The mount namespace that it was mounted in has gone, or is another one.
        uplink::stop(&state.dir)?;
        return state::remove(&path);
    }
    stay_outside()?;
    sys::namespace::join(own.as_fd(), CLONE_NEWNET).with_context(|| format!("join {}", path.display()))?;
    if uplink::is_running(&state.dir) {
        return Ok(());
    }
    let ports = ports(state, None)?;
    let dir = state.dir.clone();
    if let Err(err) = outside(move || uplink::start(&dir, &path, &ports)) {
        // Whoever only looks or takes down can do without.
        let _ = FAILURE.set(contracts::report::one_line(&err));
    }
    Ok(())
}

/// That the program runs, where it is needed.
///
/// # Errors
/// Why it could not be started.
pub fn expect() -> Result<()> {
    match FAILURE.get() {
        Some(why) => bail!("{why}"),
        None => Ok(()),
    }
}

/// Makes that namespace where this command may not change the network namespace that it is in.
///
/// # Errors
/// `Denied` for an ordinary user without a user namespace; what the kernel or the program says.
pub fn make(state: &State) -> Result<()> {
    let is_first = fs::read_link("/proc/self/ns/user").is_ok_and(|name| name.as_os_str() == FIRST);
    if is_used() {
        return expect();
    }
    if is_first && nix::unistd::geteuid().is_root() || may_change()? {
        return Ok(());
    }
    if is_first {
        fault!(
            Denied,
            "an ordinary user may not change this host's network: run it in a user namespace (unshare -Urm, podman \
             unshare)"
        );
    }
    let path = file(state);
    File::create(&path).with_context(|| format!("make {}", path.display()))?;
    stay_outside()?;
    sys::namespace::unshare(CLONE_NEWNET).context("make a network namespace")?;
    match mount(Some("/proc/self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
        Err(Errno::EPERM | Errno::EINVAL) => {
            state::remove(&path)?;
            fault!(Denied, "a mount namespace of our own is missing: unshare -Urm, with m");
        }
        other => other.with_context(|| format!("mount a network namespace on {}", path.display()))?,
    }
    let mut batch = Batch::new();
    link::set_up(&mut batch, 1, "lo");
    let lit = Socket::route().and_then(|socket| socket.run(&batch));
    let dir = state.dir.clone();
    let done = lit.and_then(|()| outside(move || uplink::start(&dir, &path, &[])));
    if done.is_err() {
        // The first error is the one to tell.
        let _ = remove(state);
    }
    done
}

/// Asks the kernel by a change that changes nothing.
fn may_change() -> Result<bool> {
    let mut batch = Batch::new();
    link::touch(&mut batch, 1);
    match Socket::route()?.run(&batch) {
        Err(err) if errno(&err) == Some(Errno::EPERM) => Ok(false),
        other => other.map(|()| true),
    }
}

/// The ports of all who are attached, and of one more.
fn ports(state: &State, more: Option<&Record>) -> Result<Vec<Port>> {
    let mut ports = more.map(|record| record.status.ports.clone()).unwrap_or_default();
    for id in state.attached()? {
        if more.is_none_or(|record| record.id != id) {
            ports.extend(Record::read(state, &id)?.unwrap_or_default().status.ports);
        }
    }
    Ok(ports)
}

/// Opens the record's ports on the host.
///
/// # Errors
/// `Busy` where somebody has one of them, `Unsupported` for what the program cannot forward.
pub fn publish(state: &State, record: &Record) -> Result<()> {
    if !is_used() || record.status.ports.is_empty() {
        return Ok(());
    }
    let (new, all) = (record.status.ports.clone(), ports(state, Some(record))?);
    let (dir, namespace) = (state.dir.clone(), file(state));
    outside(move || uplink::open(&dir, &namespace, &new, &all))
}

/// Closes them, once the record is gone; those that are not open are no error.
///
/// # Errors
/// The program does not answer.
pub fn withdraw(state: &State, record: &Record) -> Result<()> {
    if !is_used() || record.status.ports.is_empty() || FAILURE.get().is_some() {
        return Ok(());
    }
    let (old, left) = (record.status.ports.clone(), ports(state, None)?);
    let (dir, namespace) = (state.dir.clone(), file(state));
    outside(move || uplink::close(&dir, &namespace, &old, &left))
}

/// Takes the namespace down once nobody is attached.
///
/// # Errors
/// The kernel's refusal.
pub fn forget(state: &State) -> Result<()> {
    if is_used() && state.attached()?.is_empty() { remove(state) } else { Ok(()) }
}

fn remove(state: &State) -> Result<()> {
    uplink::stop(&state.dir)?;
    let path = file(state);
    match umount2(&path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => state::remove(&path),
        Err(err) => Err(err).with_context(|| format!("unmount {}", path.display())),
    }
}
