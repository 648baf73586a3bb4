//! `imgtool prune`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::output::human;

use super::images::filter::Filters;
use super::open_store;
use crate::stdout;

/// Flags of `prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove every image that no bundle uses, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Also forget the results of build steps
    #[arg(long)]
    build_cache: bool,
    /// Accepted for docker's sake: this tool never asks
    #[arg(short, long)]
    force: bool,
    /// Only images that match, as in `images`: `until=24h`, `label=KEY[=VALUE]`, `label!=KEY`
    #[arg(long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
}

/// # Errors
/// The store cannot be read or written.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let filters = Filters::parse(&args.filters, &store)?;
    let used: Vec<_> = store.bundles()?.into_iter().filter_map(|(_, record)| record.image_id).collect();
    let mut doomed = Vec::new();
    for image in store.images()? {
        let removable = args.all || image.name.is_none();
        if removable && !used.contains(&image.id) && filters.matches(&image) {
            doomed.push(image);
        }
    }
    store.update(|index| {
        index.manifests.retain(|entry| {
            !doomed.iter().any(|image| {
                image.target.digest == entry.digest && crate::store::index::name_of(entry) == image.name
            })
        });
        Ok(())
    })?;
    if args.build_cache {
        store.unkeep_all()?;
    }
    let collected = store.collect(true)?;
    if !doomed.is_empty() {
        stdout::line("Deleted Images:")?;
    }
    for image in &doomed {
        if let Some(name) = &image.name {
            stdout::line(format!("untagged: {}", name.familiar()))?;
        }
    }
    for digest in &collected.blobs {
        stdout::line(format!("deleted: {digest}"))?;
    }
    if !doomed.is_empty() {
        stdout::line("")?;
    }
    stdout::line(format!("Total reclaimed space: {}", human::size(collected.bytes)))?;
    Ok(Exit::Ok)
}
