//! `imgtool export`: a bundle's rootfs as a tar archive.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;

use crate::bundle::{self, record::Record};
use crate::layer::diff;
use crate::rootfs::{self, RootFs};

/// Write a bundle's whole rootfs as a tar archive
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imgtool export b | tar t")]
pub struct Args {
    /// The bundle's directory; mounted or not
    dir: PathBuf,
    /// Write to a file instead of stdout
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Runs the verb.
///
/// # Errors
/// No bundle there; the output cannot be written.
pub fn run(args: &Args) -> Result<Exit> {
    if args.output.is_none() && io::stdout().is_terminal() {
        fault!(Usage, "refusing to write an archive to a terminal: redirect it or use --output");
    }
    let record = Record::of(&args.dir)?;
    let rootfs = RootFs::at(&record.bundle);
    let was_mounted = rootfs::is_mount(&rootfs.target)?;
    if !was_mounted {
        bundle::mount(&super::open_store()?, &args.dir)?;
    }
    let options = diff::Options { owners: record.owners(), ..diff::Options::default() };
    let exported = match &args.output {
        None => write(&rootfs, &options, io::stdout().lock()),
        Some(path) => File::create(path)
            .with_context(|| format!("create {}", path.display()))
            .and_then(|file| write(&rootfs, &options, file)),
    };
    if !was_mounted {
        rootfs.unmount()?;
    }
    exported.with_context(|| format!("export {}", args.dir.display()))?;
    Ok(Exit::Ok)
}

fn write(rootfs: &RootFs, options: &diff::Options<'_>, output: impl Write) -> Result<()> {
    let root = File::open(&rootfs.target).context("open the rootfs")?;
    let output = BufWriter::with_capacity(256 << 10, output);
    let (output, _) = diff::write(root.as_fd(), options, output)?;
    output.into_inner().map_err(io::IntoInnerError::into_error)?.flush()?;
    Ok(())
}
