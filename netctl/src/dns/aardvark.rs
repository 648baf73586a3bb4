//! netctl as aardvark-dns: under that name, or as `netctl aardvark-dns …`. For podman's netavark, whichever one it is,
//! which writes the zone files and looks for the server in `DIR/aardvark.pid`. Logs nothing.

use std::env;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use contracts::lock::Lock;
use contracts::report;
use nix::sys::signal::{SigSet, Signal};
use sys::clone::{CloneOptions, Cloned, clone, exit_now};

use super::serve::{Server, Task};
use super::{PATIENCE, PORT, serve_until_unused};

/// Holds the pid of the server.
pub const PID_FILE: &str = "aardvark.pid";
/// The version of aardvark-dns whose files and flags these are.
const CONTRACT: &str = "1.17.0";
/// The domain of podman's names.
pub const DOMAIN: &str = "dns.podman";

/// Names for podman's containers, by aardvark-dns' files and flags.
#[derive(Debug, Parser)]
#[command(name = "aardvark-dns", version = CONTRACT, max_term_width = 100)]
struct Cli {
    /// Directory of the zone files, one per network
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Port to listen on
    #[arg(short, long)]
    port: Option<u16>,
    /// The domain that names may end in
    #[arg(short, long, value_parser = [DOMAIN])]
    filter_search_domain: Option<String>,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve in the background; returns once names are answered
    Run,
    /// Print the version
    Version,
}

/// Whether we are called so.
pub fn is_asked() -> bool {
    let mut args = env::args_os();
    let program = args.next().unwrap_or_default();
    Path::new(&program).file_name().is_some_and(|name| name == "aardvark-dns")
        || args.next().is_some_and(|first| first == "aardvark-dns")
}

/// Does what the command line says.
pub fn run() -> ExitCode {
    let mut args: Vec<_> = env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == "aardvark-dns") {
        args.remove(0);
    }
    let cli = Cli::parse_from(args);
    let done = match cli.command {
        Verb::Version => writeln!(std::io::stdout(), "aardvark-dns {CONTRACT}").context("write to stdout"),
        Verb::Run => in_background(&cli),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            report::print_error("aardvark-dns", &err);
            ExitCode::FAILURE
        }
    }
}

/// Starts the server in a child and returns as soon as it answers.
fn in_background(cli: &Cli) -> Result<()> {
    let dir = match &cli.config {
        Some(dir) => dir.clone(),
        None => contracts::paths::Paths::from_env().state.join("aardvark-dns"),
    };
    let task = Task { dir, port: cli.port.unwrap_or(PORT), domain: DOMAIN };
    let (mut told, tell) = std::io::pipe().context("make a pipe")?;
    match clone(CloneOptions::default()).context("start the server")? {
        Cloned::Child => {
            drop(told);
            let mut tell = Some(tell);
            // Closed with it: our starter waits for the end.
            let mut say = |text: &str| tell.take().map(|mut tell| tell.write_all(text.as_bytes()));
            let done = serve(task, || drop(say("ready")));
            if let Err(err) = &done {
                say(&report::one_line(err));
            }
            exit_now(i32::from(done.is_err()));
        }
        Cloned::Parent { .. } => {
            drop(tell);
            let mut said = String::new();
            told.read_to_string(&mut said).context("wait for the server")?;
            match said.as_str() {
                "ready" => Ok(()),
                "" => bail!("the server ended before it was ready"),
                why => bail!("{why}"),
            }
        }
    }
}

fn serve(task: Task, ready: impl FnOnce()) -> Result<()> {
    let _ = nix::unistd::setsid();
    std::env::set_current_dir("/").context("enter /")?;
    // It says that files have changed, which we see anyway.
    let mut hangup = SigSet::empty();
    hangup.add(Signal::SIGHUP);
    hangup.thread_block().context("block SIGHUP")?;
    let pid_file = task.dir.join(PID_FILE);
    let patience = Instant::now() + PATIENCE;
    let _lock = loop {
        if let Some(lock) = Lock::try_exclusive(&task.dir.join(".lock"))? {
            break lock;
        }
        if pid_file.exists() {
            // Somebody serves: one that was about to leave, perhaps, and has changed its mind.
            ready();
            return Ok(());
        }
        if Instant::now() > patience {
            bail!("{}: another server neither serves nor leaves", task.dir.display());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let server = Server::new(task)?;
    let enter = || {
        std::fs::write(&pid_file, std::process::id().to_string())
            .with_context(|| format!("write {}", pid_file.display()))
    };
    enter()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let null = null.context("open /dev/null")?;
    for number in 0..3 {
        sys::clone::place_fd(null.as_fd(), number).context("let go of the terminal")?;
    }
    ready();
    serve_until_unused(server, &pid_file, enter)
}
