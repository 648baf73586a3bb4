//! Names on networks: a small server on the gateways' addresses, one process for all networks of a host while they have
//! containers. Also aardvark-dns, for netavark and podman ([`aardvark`]).
//!
//! It meets the rest of netctl only in files: `up` and `down` change the zone files, the server watches them, and ends
//! by itself once there are none. `DIR.pid` names the running server, `DIR.lock` is held by it.

pub mod aardvark;
mod answer;
pub mod file;
mod forward;
mod host;
mod names;
mod serve;
pub mod shared;
mod stream;
mod wire;
pub mod zone;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::atomic;
use contracts::lock::Lock;
use contracts::process::Process;

use crate::state;
use serve::{Server, Task};

/// How long a server may take to bind its addresses, or a leaving one to free them.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where names are asked for.
pub const PORT: u16 = 53;

/// Makes sure that a server runs for this directory of zone files. A running one sees changes by itself.
///
/// # Errors
/// It cannot be started: what it said.
pub fn start(dir: &Path) -> Result<()> {
    if is_running(dir) {
        return Ok(());
    }
    let program = std::env::current_exe().context("find netctl itself")?;
    let mut child = Command::new(program)
        .arg("dns")
        .arg(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()
        .context("start the name server")?;
    // It says one line, then closes its end: nobody waits for it any longer than that.
    let mut said = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut said).context("wait for the name server")?;
    }
    match said.trim_end() {
        "ready" => Ok(()),
        "" => bail!("the name server ended before it was ready: {}", child.wait()?),
        why => bail!("{why}"),
    }
}

/// Whether these addresses can be served: for the first container of a network, as a running server would find out
/// only later. One that still has them, because it has not seen yet that the network was left, is waited for.
///
/// # Errors
/// The first one that cannot.
pub fn try_listen(dir: &Path, addresses: &[IpAddr]) -> Result<()> {
    let patience = Instant::now() + PATIENCE;
    for address in addresses {
        while let Err(err) = bind(*address, PORT) {
            let is_ours = err.kind() == std::io::ErrorKind::AddrInUse
                && Lock::try_exclusive(&with_ending(dir, "lock"))?.is_none();
            if !is_ours || Instant::now() > patience {
                return Err(err).with_context(|| format!("listen on {address} port {PORT}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

fn bind(address: IpAddr, port: u16) -> std::io::Result<(UdpSocket, TcpListener)> {
    Ok((UdpSocket::bind((address, port))?, TcpListener::bind((address, port))?))
}

/// Whether a file of that name is a zone.
fn is_zone(name: &str) -> bool {
    !name.starts_with('.') && !name.ends_with(".tmp") && name != aardvark::PID_FILE
}

/// Removes the pid file of a server that was killed.
///
/// # Errors
/// The file system's.
pub fn forget(dir: &Path) -> Result<()> {
    if is_running(dir) { Ok(()) } else { state::remove(&pid_file(dir)) }
}

/// The server itself: `netctl dns DIR`.
///
/// # Errors
/// As [`Server::new`] and [`Server::run`]; said on stdout as well, for whoever started it.
pub fn run(dir: &Path) -> Result<()> {
    // Its starter's terminal and process group are none of its business any more; already a leader is as good.
    let _ = nix::unistd::setsid();
    let mut stdout = std::io::stdout();
    let started = start_serving(dir);
    let said = match &started {
        Ok(_) => "ready".to_owned(),
        Err(err) => contracts::report::one_line(err),
    };
    let _ = writeln!(stdout, "{said}").and_then(|()| stdout.flush());
    let Some((server, _lock)) = started? else { return Ok(()) };
    nix::unistd::dup2_stdout(fs::File::open("/dev/null").context("open /dev/null")?)
        .context("close stdout")?;
    serve_until_unused(server, &pid_file(dir), || {
        atomic::write_json_volatile(&pid_file(dir), &Process::current()?, 0o600)
    })
}

fn serve_until_unused(mut server: Server, pid_file: &Path, enter: impl Fn() -> Result<()>) -> Result<()> {
    loop {
        server.run()?;
        // Whoever writes a zone looks at the pid file afterwards. So: first take that away, then look at the zones
        // once more. Either they miss us and start another, or we see what they wrote.
        state::remove(pid_file)?;
        server.reload();
        if server.is_unused() {
            return Ok(());
        }
        enter()?;
    }
}

/// The server, bound and entered in the pid file; `None` where another one serves this directory already.
fn start_serving(dir: &Path) -> Result<Option<(Server, Lock)>> {
    let lock_file = with_ending(dir, "lock");
    let patience = Instant::now() + PATIENCE;
    let lock = loop {
        if let Some(lock) = Lock::try_exclusive(&lock_file)? {
            break lock;
        }
        // A leaving server either changes its mind (its pid file is back) or frees the lock in a moment.
        if is_running(dir) {
            return Ok(None);
        }
        if Instant::now() > patience {
            bail!("{}: another name server neither serves nor leaves", lock_file.display());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let server = Server::new(Task { dir: dir.to_owned(), port: PORT, domain: "" })?;
    atomic::write_json_volatile(&pid_file(dir), &Process::current()?, 0o600)?;
    Ok(Some((server, lock)))
}

fn is_running(dir: &Path) -> bool {
    // An unreadable pid file is as good as none: the lock decides.
    let process: Option<Process> = atomic::read_json(&pid_file(dir)).ok().flatten();
    process.is_some_and(|process| process.is_running())
}

fn pid_file(dir: &Path) -> PathBuf {
    with_ending(dir, "pid")
}

fn with_ending(dir: &Path, ending: &str) -> PathBuf {
    let mut path = dir.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}
