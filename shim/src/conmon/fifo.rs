//! The named pipes in a bundle by which others command conmon: `ctl` and `winsz`.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// A named pipe in the bundle, read by lines.
pub struct Fifo {
    /// To be watched for reading.
    pub file: File,
    /// So that it never ends.
    _writer: File,
    kept: Vec<u8>,
}

impl Fifo {
    /// Makes it anew and holds both ends open.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn make(path: &Path) -> Result<Self> {
        let what = || format!("make {}", path.display());
        let _ = std::fs::remove_file(path);
        mkfifo(path, Mode::from_bits_truncate(0o660)).with_context(what)?;
        let open = |options: &mut std::fs::OpenOptions| {
            options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).with_context(what)
        };
        let file = open(File::options().read(true))?;
        let writer = open(File::options().write(true))?;
        Ok(Self { file, _writer: writer, kept: Vec::new() })
    }

    /// The whole lines that have come.
    pub fn lines(&mut self) -> Vec<String> {
        let mut buffer = [0; 200];
        while let Ok(length @ 1..) = self.file.read(&mut buffer) {
            self.kept.extend_from_slice(&buffer[..length]);
        }
        let Some(end) = self.kept.iter().rposition(|&byte| byte == b'\n') else {
            // No line of ours is this long.
            if self.kept.len() > 200 {
                self.kept.clear();
            }
            return Vec::new();
        };
        let rest = self.kept.split_off(end + 1);
        let text = String::from_utf8_lossy(&self.kept).into_owned();
        self.kept = rest;
        text.lines().map(str::to_owned).collect()
    }
}
