//! The name server of podman's networks: its process, by the pid that it has written.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dns::aardvark::PID_FILE;

/// Where and by whom names are answered.
#[derive(Debug, Clone)]
pub struct Server {
    /// The zone files.
    pub dir: PathBuf,
    /// aardvark-dns; `None` for ourselves.
    pub program: Option<PathBuf>,
    /// The port it listens on; the firewall sends questions there.
    pub port: u16,
}

impl Server {
    /// Tells the server that files have changed, or starts one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn notify(&self) -> Result<()> {
        if self.tell() { Ok(()) } else { self.start() }
    }

    /// Tells a running server that files have changed; whether there is one.
    pub fn tell(&self) -> bool {
        self.running().is_some_and(|pid| kill(pid, Signal::SIGHUP).is_ok())
    }

    /// The running server, by the pid that it has written; a stranger who got that pid later is none.
    fn running(&self) -> Option<Pid> {
        let pid: i32 = fs::read_to_string(self.dir.join(PID_FILE)).ok()?.trim().parse().ok()?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let marks = |word: &[u8]| word.ends_with(b"aardvark-dns");
        words.split(|byte| *byte == 0).any(marks).then(|| Pid::from_raw(pid))
    }

    fn start(&self) -> Result<()> {
        let (program, own) = match &self.program {
            Some(program) => (program.clone(), None),
            None => (std::env::current_exe().context("find ourselves")?, Some("aardvark-dns")),
        };
        let mut words: Vec<OsString> = scope().into_iter().map(OsString::from).collect();
        words.push(program.clone().into());
        words.extend(own.map(OsString::from));
        words.extend(["--config".into(), self.dir.clone().into(), "-p".into(), self.port.to_string().into()]);
        words.push("run".into());
        let output = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        let output = match output {
            Ok(output) => output,
            // The peer's own words: podman's users search for them.
            Err(err) => {
                bail!("aardvark-dns failed to start: Failed to find executable {}: {err}", program.display())
            }
        };
        match String::from_utf8_lossy(&output.stderr).trim() {
            _ if output.status.success() => Ok(()),
            "" => bail!("aardvark-dns exited unexpectedly without error message"),
            why => bail!("aardvark-dns failed to start: {why}"),
        }
    }
}

/// Under systemd the server must outlive the unit that starts the container.
fn scope() -> Vec<&'static str> {
    let is_found = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join("systemd-run").is_file())
    };
    if !Path::new("/run/systemd/system").is_dir() || !is_found() {
        return Vec::new();
    }
    let mut words = vec!["systemd-run", "-q", "--scope"];
    if !nix::unistd::geteuid().is_root() {
        words.push("--user");
    }
    words
}
