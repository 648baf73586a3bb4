//! `imgtool load < FILE`

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;

use super::open_store;
use crate::place::ingest::{Found, ingest, open};
use crate::stdout;
use crate::store::Store;
use crate::store::config::ImageConfig;
use crate::store::document::{Kind, MAX_DOCUMENT};

/// Flags of `load`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads what docker save, podman save, skopeo copy … docker-archive:/oci-archive: and imgtool save \
                        write, plain or compressed with gzip or zstd."
)]
pub struct Args {
    /// Read this file instead of stdin
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Print nothing but names (the same as without, for docker's sake)
    #[arg(short, long)]
    quiet: bool,
}

/// # Errors
/// It is no image archive, or damaged; no space. Then no image of it is loaded.
pub fn run(args: &Args) -> Result<Exit> {
    if args.input.is_none() && io::stdin().is_terminal() {
        fault!(Usage, "requested load from stdin, but stdin is a terminal: use -i FILE or redirect");
    }
    let store = open_store()?;
    let path = args.input.as_deref().unwrap_or(Path::new("-"));
    let loaded = load(&store, path);
    // Whatever came in and is named by nothing goes, also after a failure; its error is the one to tell.
    let collected = store.collect(false);
    let found = loaded?;
    collected?;
    for image in &found {
        for name in &image.names {
            stdout::line(format!("Loaded image: {}", name.familiar()))?;
        }
        if image.names.is_empty() {
            let id = match &image.document.kind {
                Kind::Manifest(manifest) => &manifest.config.digest,
                Kind::Index(_) => &image.document.digest,
            };
            stdout::line(format!("Loaded image ID: {id}"))?;
        }
    }
    Ok(Exit::Ok)
}

fn load(store: &Store, path: &Path) -> Result<Vec<Found>> {
    let lease = store.lease()?;
    let mut reader = open(path)?;
    let found = ingest(store, &lease, &mut reader).with_context(|| format!("load {}", path.display()))?;
    let config_of = |image: &Found| match &image.document.kind {
        Kind::Manifest(manifest) => {
            ImageConfig::parse(&store.read_blob(&manifest.config.digest, MAX_DOCUMENT)?).map(Some)
        }
        Kind::Index(_) => Ok(None),
    };
    // All are read before the first gets its name.
    let configs = found.iter().map(config_of).collect::<Result<Vec<_>>>()?;
    for (image, config) in found.iter().zip(configs) {
        store.add_document(&lease, &image.document, config, &image.names)?;
    }
    Ok(found)
}
