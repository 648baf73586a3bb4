//! The `up` and `down` side of the DNS server: start it if it is not there, tell it what changed.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};
use sys::seqpacket;

use crate::network::Network;
use crate::state::State;

/// The control socket's name in `STATE/net`.
pub const SOCKET: &str = "dns.sock";
/// What the server answers when all is well.
pub const OK: &str = "ok";

/// Makes the server know `id`; starts it where a network wants names and none runs.
///
/// # Errors
/// The server cannot listen on a gateway address, or cannot be started.
pub fn ensure(state: &State, networks: &[Network], id: &str) -> Result<()> {
    if !networks.iter().any(|network| network.dns && !network.gateways().is_empty()) {
        tell(state, id);
        return Ok(());
    }
    let answer = match ask(&state.dir, id) {
        Some(answer) => answer,
        None => spawn()?,
    };
    if answer != OK {
        bail!("start the DNS server: {answer}");
    }
    Ok(())
}

/// Tells the server, if there is one, that `id` changed. It reads the files itself, so nothing is lost without it.
pub fn tell(state: &State, id: &str) {
    let _ = ask(&state.dir, id);
}

/// One question and its answer; `None` where no server runs (or it ends just now).
fn ask(dir: &Path, id: &str) -> Option<String> {
    let fd = seqpacket::connect(dir, SOCKET).ok()?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).ok()?;
    seqpacket::send(&fd, id.as_bytes()).ok()?;
    let mut buffer = [0; 512];
    let length = seqpacket::receive(&fd, &mut buffer).ok()?;
    (length > 0).then(|| String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Starts the server and waits until it listens. It outlives us: own session, nothing of ours inherited.
fn spawn() -> Result<String> {
    let program = std::env::current_exe().context("find netctl's own program")?;
    let mut child = Command::new(program)
        .arg("dns-server")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .context("start the DNS server")?;
    let stdout = child.stdout.take().context("read from the DNS server")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("read from the DNS server")?;
    if line.is_empty() {
        bail!("the DNS server ended at once");
    }
    Ok(line.trim_end().to_owned())
}
