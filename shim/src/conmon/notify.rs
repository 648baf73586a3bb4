//! `--sdnotify-socket`: what the payload says to systemd, passed on line by line where it is harmless.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The socket inside, and where it leads.
pub struct Notify {
    inside: UnixDatagram,
    outside: UnixDatagram,
    host: PathBuf,
}

const WHOLE: &[&str] = &["READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1", "WATCHDOG=trigger"];
const BEGINNINGS: &[&str] = &["STATUS=", "ERRNO=", "BUSERROR=", "MONOTONIC_USEC="];

impl Notify {
    /// Listens on `BUNDLE/notify/notify.sock`.
    pub fn listen(bundle: &Path, host: &Path) -> Result<Self> {
        let path = bundle.join("notify/notify.sock");
        let _ = std::fs::remove_file(&path);
        // Through a descriptor: the path may be longer than an address.
        let dir = std::fs::File::open(bundle.join("notify")).context("open the notify directory")?;
        let short = format!("/proc/self/fd/{}/notify.sock", std::os::fd::AsRawFd::as_raw_fd(&dir));
        let inside = UnixDatagram::bind(short).context("listen for notifications")?;
        inside.set_nonblocking(true)?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777))?;
        Ok(Self { inside, outside: UnixDatagram::unbound()?, host: host.into() })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }

    /// Passes on what is there.
    pub fn pass_on(&self) {
        let mut buffer = [0; 4096];
        while let Ok(length) = self.inside.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            let fine = |line: &&str| {
                WHOLE.contains(line) || BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
            };
            let lines: Vec<&str> = text.lines().filter(fine).collect();
            if !lines.is_empty() {
                let _ = self.outside.send_to(lines.join("\n").as_bytes(), &self.host);
            }
        }
    }
}
