//! The conmon face: what podman and CRI-O execute to look after one container (`conmon` as the program's name, or
//! `shim conmon`). One process, one epoll; the log, attached clients, the exit file, the exit command.

mod cli;
mod clients;
mod create;
mod ending;
mod fifo;
mod journal;
mod log;
mod notify;
mod pipes;
mod run;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use nix::sys::stat::{Mode, umask};

use cli::Options;

/// First word of the process that stays.
const DAEMON: &str = "--daemonised";
/// conmon's version whose behaviour this is; podman refuses old ones.
const VERSION: &str = "2.2.1";

/// All of it; `words` come after the program's name.
pub fn main(words: &[OsString]) -> ExitCode {
    let mut words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let stays = words.first().is_some_and(|word| word == DAEMON);
    if stays {
        words.remove(0);
    }
    match begin(&words, stays) {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            let text = contracts::report::one_line(&err);
            let prefix = if text.starts_with("option parsing failed") { "conmon" } else { "[conmon:e]" };
            contracts::report::say(format_args!("{prefix}: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn begin(words: &[String], stays: bool) -> Result<u8> {
    let options = cli::parse(words)?;
    if options.version {
        let text = format!("conmon version {VERSION}\ncommit: bulkhead {}\n", env!("CARGO_PKG_VERSION"));
        return std::io::stdout().write_all(text.as_bytes()).context("write to stdout").map(|()| 0);
    }
    if options.help {
        return std::io::stdout().write_all(cli::HELP.as_bytes()).context("write to stdout").map(|()| 0);
    }
    if stays {
        return Ok(supervise(&options));
    }
    options.check()?;
    if options.no_container_partial_message
        && !options.log_paths.iter().any(|spec| spec.starts_with("journald"))
    {
        contracts::report::say(format_args!(
            "[conmon:w]: --no-container-partial-message has no effect without journald log driver"
        ));
    }
    if options.exec_attach && std::env::var_os("_OCI_ATTACHPIPE").is_none() {
        anyhow::bail!("--attach specified but _OCI_ATTACHPIPE was not");
    }
    umask(Mode::from_bits_truncate(0o022));
    // What is wrong with the logs should be said while somebody reads stderr.
    log::Logs::open(&options)?;
    // Whoever starts us moves this process to its cgroup first; what we start is born there.
    if let Some(mut start) = pipes::share("_OCI_STARTPIPE")? {
        pipes::wait_for_word(&mut start)?;
    }
    if options.sync {
        return Ok(supervise(&options));
    }
    // The process that stays is a fresh one: nothing of the parsing above stays in its memory.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("conmon").arg(DAEMON).args(words);
    let child = command.spawn().context("Failed to fork the monitor")?;
    if let Some(path) = &options.conmon_pidfile {
        write_whole(path, child.id().to_string().as_bytes()).context("write the conmon pid file")?;
    }
    Ok(0)
}

/// The life of the process that stays; the code is the container's.
fn supervise(options: &Options) -> u8 {
    // Before any descriptor of our own: podman leaks its reserved ports into us.
    let mut ends = ending::Ends::default();
    let code = match run::Monitor::start(options, &mut ends).and_then(run::Monitor::run) {
        Ok(code) => code,
        Err(err) => {
            let text = contracts::report::one_line(&err);
            // Who waits for the pid must not wait for ever.
            pipes::tell(&mut ends.sync, ends.key, -1, Some(&text));
            say(options, &text);
            1
        }
    };
    ending::finish(options, ends, code)
}

/// A word of our own: whoever stays has no stderr.
fn say(options: &Options, text: &str) {
    if options.syslog
        && let Ok(socket) = std::os::unix::net::UnixDatagram::unbound()
    {
        let line = format!("<27>conmon: conmon {} <error>: {text}", options.cid);
        let _ = socket.send_to(line.as_bytes(), "/dev/log");
    }
}

/// A whole file or none; conmon's readers want no line end.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut temporary = path.to_path_buf().into_os_string();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = Path::new(&temporary);
    std::fs::write(temporary, bytes)
        .and_then(|()| std::fs::rename(temporary, path))
        .with_context(|| format!("write {}", path.display()))
}
