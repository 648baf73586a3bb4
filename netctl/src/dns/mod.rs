//! Names on a network: a small server on the gateway's addresses, one process per network while it has containers.
//!
//! It meets the rest of netctl only in files: `up` and `down` replace the zone file, the server watches it, and ends by
//! itself once the zone is empty or gone. `<zone>.pid` names the running server, `<zone>.lock` is held by it.

mod answer;
mod forward;
mod serve;
mod stream;
mod wire;
pub mod zone;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::atomic;
use contracts::lock::Lock;
use contracts::process::Process;

use serve::Server;

/// How long a server may take to bind its addresses, or a leaving one to free them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes sure that a server runs for this zone file, which has been written before. A running one sees the change by
/// itself.
///
/// # Errors
/// It cannot be started: what it said.
pub fn start(file: &Path) -> Result<()> {
    if is_running(file) {
        return Ok(());
    }
    let program = std::env::current_exe().context("find netctl itself")?;
    let mut child = Command::new(program)
        .arg("dns")
        .arg(file)
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

/// The server itself: `netctl dns FILE`.
///
/// # Errors
/// As [`Server::new`] and [`Server::run`]; said on stdout as well, for whoever started it.
pub fn run(file: &Path) -> Result<()> {
    // Its starter's terminal and process group are none of its business any more; already a leader is as good.
    let _ = nix::unistd::setsid();
    let mut stdout = std::io::stdout();
    let started = start_serving(file);
    let said = match &started {
        Ok(_) => "ready".to_owned(),
        Err(err) => contracts::report::one_line(err),
    };
    let _ = writeln!(stdout, "{said}").and_then(|()| stdout.flush());
    let Some((mut server, _lock)) = started? else { return Ok(()) };
    nix::unistd::dup2_stdout(fs::File::open("/dev/null").context("open /dev/null")?)
        .context("close stdout")?;
    loop {
        server.run()?;
        // Whoever writes the zone looks at the pid file afterwards. So: first take that away, then look at the zone
        // once more. Either they miss us and start another, or we see what they wrote.
        remove(&pid_file(file))?;
        server.reload();
        if server.is_unused() {
            return Ok(());
        }
        atomic::write_json(&pid_file(file), &Process::current()?, 0o600)?;
    }
}

/// The server, bound and entered in the pid file; `None` where another one serves this zone already.
fn start_serving(file: &Path) -> Result<Option<(Server, Lock)>> {
    let lock_file = with_ending(file, "lock");
    let patience = Instant::now() + PATIENCE;
    let lock = loop {
        if let Some(lock) = Lock::try_exclusive(&lock_file)? {
            break lock;
        }
        // A leaving server either changes its mind (its pid file is back) or frees the lock in a moment.
        if is_running(file) {
            return Ok(None);
        }
        if Instant::now() > patience {
            bail!("{}: another name server neither serves nor leaves", lock_file.display());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let server = Server::new(file)?;
    atomic::write_json(&pid_file(file), &Process::current()?, 0o600)?;
    Ok(Some((server, lock)))
}

fn is_running(file: &Path) -> bool {
    // An unreadable pid file is as good as none: the lock decides.
    let process: Option<Process> = atomic::read_json(&pid_file(file)).ok().flatten();
    process.is_some_and(|process| process.is_running())
}

fn pid_file(file: &Path) -> PathBuf {
    with_ending(file, "pid")
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(err).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
