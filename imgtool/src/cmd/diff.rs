//! `imgtool diff`: what changed in a bundle's rootfs since its image.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use sys::path::Root;

use crate::bundle::record::Record;
use crate::layer::changes::{self, Change};
use crate::layer::extracted::Layers;
use crate::rootfs::RootFs;
use crate::stdout;
use crate::store::Store;

/// List what changed in a bundle's rootfs: A added, C changed, D deleted
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imgtool diff b | grep ^D")]
pub struct Args {
    /// The bundle's directory; mounted or not
    dir: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// No bundle there, its layers cannot be read.
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let record = Record::of(&args.dir)?;
    let mut text = String::new();
    for (change, path) in list(&store, &record).with_context(|| format!("diff {}", args.dir.display()))? {
        text.push_str(change.letter());
        text.push_str(" /");
        text.push_str(&path.to_string_lossy());
        text.push('\n');
    }
    stdout::write(&text)?;
    Ok(Exit::Ok)
}

fn list(store: &Store, record: &Record) -> Result<Vec<(Change, PathBuf)>> {
    // The image may be gone; the bundle holds its layers.
    let lowers = record.directories(&Layers::open(store.paths())?).context("a layer is missing")?;
    let open = |path: &PathBuf| Root::open(path).with_context(|| format!("open {}", path.display()));
    let lowers: Vec<Root> = lowers.iter().rev().map(open).collect::<Result<_>>()?;
    changes::list(&open(&RootFs::at(&record.bundle).upper)?, &lowers)
}
