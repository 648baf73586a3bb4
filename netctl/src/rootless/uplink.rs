//! The program between the user's networks and the host's: slirp4netns(1), which opens and closes ports while it runs; or
//! pasta(1), which is faster, but knows its ports when it starts, so that it is started anew when they change.
//! `NETCTL_UPLINK` chooses. Files, beside the namespace's: `uplink.pid`, `uplink.sock`, `uplink.log`, and [`SERVERS`].
//! All of this is called on the host's side.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::network::Port;
use contracts::process::Process;
use contracts::{atomic, fault};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use super::{pasta, slirp};
use crate::firewall::find_program;
use crate::state;

/// Whom the user's name server asks: the program hands questions to the host's servers, also to those on loopback.
pub const SERVERS: &str = "uplink.resolv.conf";
/// The environment variable that chooses.
const VARIABLE: &str = "NETCTL_UPLINK";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Slirp4netns,
    Pasta,
}

/// `uplink.pid`.
#[derive(Debug, Serialize, Deserialize)]
struct Running {
    version: u32,
    kind: Kind,
    process: Process,
}

fn running(dir: &Path) -> Option<Running> {
    let running: Option<Running> = atomic::read_json(&dir.join("uplink.pid")).ok().flatten();
    running.filter(|running| running.process.is_running())
}

/// Whether it runs.
pub fn is_running(dir: &Path) -> bool {
    running(dir).is_some()
}

fn choose() -> Result<(Kind, PathBuf)> {
    const BOTH: [(Kind, &str); 2] = [(Kind::Slirp4netns, "slirp4netns"), (Kind::Pasta, "pasta")];
    let asked = std::env::var(VARIABLE).unwrap_or_default();
    if !asked.is_empty() && !BOTH.iter().any(|(_, name)| *name == asked) {
        fault!(Usage, "{VARIABLE} {asked:?}: slirp4netns or pasta");
    }
    let wanted = BOTH.into_iter().filter(|(_, name)| asked.is_empty() || *name == asked);
    match wanted.filter_map(|(kind, name)| Some((kind, find_program(name)?))).next() {
        Some(found) => Ok(found),
        None if asked.is_empty() => {
            fault!(
                Unsupported,
                "networks of an ordinary user need program slirp4netns or pasta: both are missing"
            )
        }
        None => fault!(Unsupported, "program {asked} is missing ({VARIABLE} asks for it)"),
    }
}

/// Starts it, with these ports open.
///
/// # Errors
/// `Unsupported` where it is missing, `Busy` for a port that is taken; what it says when it fails.
pub fn start(dir: &Path, namespace: &Path, ports: &[Port]) -> Result<()> {
    let (kind, program) = choose()?;
    launch(dir, namespace, kind, &program, ports)
}

fn launch(dir: &Path, namespace: &Path, kind: Kind, program: &Path, ports: &[Port]) -> Result<()> {
    state::remove(&dir.join("uplink.sock"))?;
    let path = dir.join("uplink.log");
    let log = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let shown = || format!("start {}", program.display());
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(log.try_clone().with_context(shown)?).stderr(log);
    command.current_dir("/").process_group(0);
    let (child, servers) = match kind {
        Kind::Slirp4netns => (slirp::start(command, dir, namespace)?, slirp::SERVER),
        Kind::Pasta => (pasta::start(command, dir, namespace, ports)?, pasta::SERVER),
    };
    let Some(child) = child else { bail!("{}: {}", program.display(), last_line(&path)) };
    let process = Process::of(i32::try_from(child.id()).unwrap_or(0)).with_context(shown)?;
    atomic::write_json_volatile(&dir.join("uplink.pid"), &Running { version: 1, kind, process }, 0o600)?;
    atomic::write_volatile(&dir.join(SERVERS), format!("nameserver {servers}\n").as_bytes(), 0o644)?;
    match kind {
        Kind::Slirp4netns => ports.iter().try_for_each(|port| slirp::open(dir, port)),
        Kind::Pasta => Ok(()),
    }
}

/// Why a program ended: its last words, not those about a syslog that it has not.
fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("to syslog"));
    let said = lines.next_back().unwrap_or("it ended and said nothing");
    said.to_owned()
}

fn end(dir: &Path) -> Result<()> {
    let Some(running) = running(dir) else { return Ok(()) };
    if let Some(pidfd) = running.process.open().context("open the uplink's process")? {
        sys::pidfd::send_signal(pidfd.as_fd(), nix::libc::SIGTERM).context("end the uplink")?;
        // Its ports are free when it has gone.
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut ended, PollTimeout::from(5_000_u16));
    }
    Ok(())
}

/// Ends the program.
///
/// # Errors
/// It cannot be signalled, or its files cannot be removed.
pub fn stop(dir: &Path) -> Result<()> {
    end(dir)?;
    for name in ["uplink.pid", "uplink.sock", "uplink.log", "pasta.pid", SERVERS] {
        state::remove(&dir.join(name))?;
    }
    Ok(())
}

/// Opens `new`, which are among `all`, on the host.
///
/// # Errors
/// `Busy` where one is taken, `Unsupported` for what the program cannot forward.
pub fn open(dir: &Path, namespace: &Path, new: &[Port], all: &[Port]) -> Result<()> {
    if let Some(port) = new.iter().find(|port| port.protocol == "sctp") {
        fault!(Unsupported, "cannot publish {}/sctp for an ordinary user: only tcp and udp", port.host_port);
    }
    match running(dir).map(|running| running.kind) {
        Some(Kind::Slirp4netns) => new.iter().try_for_each(|port| slirp::open(dir, port)),
        _ => restart(dir, namespace, all),
    }
}

/// Closes `old`, so that `all` are left.
///
/// # Errors
/// The program does not answer, or does not start again.
pub fn close(dir: &Path, namespace: &Path, old: &[Port], all: &[Port]) -> Result<()> {
    match running(dir).map(|running| running.kind) {
        Some(Kind::Slirp4netns) => slirp::close(dir, old),
        Some(Kind::Pasta) => restart(dir, namespace, all),
        None => {
            // It could not start with them. What it says now without them is the next command's business.
            let _ = restart(dir, namespace, all);
            Ok(())
        }
    }
}

fn restart(dir: &Path, namespace: &Path, ports: &[Port]) -> Result<()> {
    let (kind, program) = choose()?;
    end(dir)?;
    launch(dir, namespace, kind, &program, ports)
}
