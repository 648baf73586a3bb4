//! `imgtool recompress`: a stream in whatever compression it is, in another one.
//!
//! Not for people: shim executes it for checkpoints that travel, so that it carries no library of its own for that.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use contracts::exit::Exit;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::layer::stream;

/// Flags of `recompress`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What stdout gets
    #[arg(value_enum)]
    to: To,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum To {
    None,
    Gzip,
    Zstd,
}

/// Runs the verb.
///
/// # Errors
/// stdin is damaged; stdout cannot be written to.
pub fn run(args: &Args) -> Result<Exit> {
    let mut input = stream::unpack(io::stdin()).context("recompress stdin")?;
    let out = io::stdout().lock();
    let what = "recompress stdin";
    match args.to {
        To::None => copy(&mut input, out)?,
        To::Gzip => copy(&mut input, GzEncoder::new(out, Compression::default()))?.finish().context(what)?,
        To::Zstd => {
            let encoder = zstd::Encoder::new(out, 3).context(what)?;
            copy(&mut input, encoder)?.finish().context(what)?
        }
    }
    .flush()
    .context(what)?;
    Ok(Exit::Ok)
}

fn copy<W: io::Write>(input: &mut impl io::Read, mut out: W) -> Result<W> {
    io::copy(input, &mut out).context("recompress stdin")?;
    Ok(out)
}
