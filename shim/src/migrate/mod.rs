//! Checkpoints that travel: an archive with podman's names, `shim checkpoint --export` and `shim restore --import`.
//!
//! `checkpoint/` (or `pre-checkpoint/`) holds CRIU's images, `config.dump` the container, `spec.dump` its config.json,
//! `network.status` its addresses, `rootfs-diff.tar` and `deleted.files` what changed in its files, `volumes/<name>.tar` its
//! named volumes, `ctr.log` its log.

pub mod describe;
mod ordinary;
pub mod read;
pub mod stats;
pub mod write;

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

pub use crate::container::checkpoints::MEMORY;
use crate::copy::archive::{self, Place};
use crate::copy::owners::Owners;
use crate::tools;

/// The directory of a whole dump in the archive; that of one of memory alone has the name it has here, too.
const IMAGES: &str = "checkpoint";

/// `imgtool recompress` at work.
pub struct Recompress {
    command: Command,
    child: Child,
}

impl Recompress {
    fn start(to: &str, stdin: Stdio, stdout: Stdio) -> Result<Self> {
        let mut command = tools::imgtool("recompress");
        command.arg(to).stdin(stdin).stdout(stdout).stderr(Stdio::piped());
        let child = command.spawn().context("execute imgtool")?;
        Ok(Self { command, child })
    }

    /// Of a file that is read to its end, or for as long as the caller likes.
    fn reading(file: File) -> Result<Self> {
        Self::start("none", file.into(), Stdio::piped())
    }

    /// Unpacks a tar in whatever compression.
    pub fn unpack(file: File, place: &Place) -> Result<()> {
        let mut unpacker = Self::reading(file)?;
        let mut output = unpacker.child.stdout.take().context("reach imgtool")?;
        let unpacked = archive::unpack(&mut output, place, Path::new("/"), Owners::Kept);
        // What follows the archive's end.
        let _ = std::io::copy(&mut output, &mut std::io::sink());
        drop(output);
        unpacker.end()?;
        unpacked
    }

    fn end(self) -> Result<()> {
        let output = self.child.wait_with_output().context("wait for imgtool")?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{:?}: {}", self.command.get_program(), said.trim())
    }
}
