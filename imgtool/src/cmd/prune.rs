//! `imgtool prune`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::output::human;

use super::images::filter::{Filters, moment};
use super::open_store;
use crate::stdout;
use crate::store::Store;
use crate::store::image::Image;

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
    /// Also named images that nothing was made of for this long
    #[arg(long, value_name = "7d|24h")]
    unused_for: Option<String>,
    /// Also named images, those unused for the longest time first, until all images take at most this
    #[arg(long, value_name = "10GB")]
    keep_storage: Option<String>,
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
    let unused = args.unused_for.as_deref().map(moment).transpose()?;
    let most = args.keep_storage.as_deref().map(size).transpose()?;
    let mut doomed = Vec::new();
    let mut spare = Vec::new();
    for image in store.own_images()? {
        if used.contains(&image.id) || !filters.matches(&image) {
            continue;
        }
        let idle = unused.is_some_and(|limit| store.last_used(&image.id) < limit);
        if args.all || image.name.is_none() || idle {
            doomed.push(image);
        } else {
            spare.push(image);
        }
    }
    forget(&store, &doomed)?;
    if args.build_cache {
        // Without these files nothing finds the kept blobs; the other order would leave files that nothing removes.
        crate::build::cache::forget_all(&store)?;
        store.unkeep_all()?;
    }
    let mut collected = store.collect(true)?;
    if let Some(most) = most {
        spare.sort_by_cached_key(|image| std::cmp::Reverse(store.last_used(&image.id)));
        // One by one: what an image frees depends on what it shares with those that stay.
        while store.stored()? > most {
            let Some(image) = spare.pop() else { break };
            forget(&store, std::slice::from_ref(&image))?;
            let more = store.collect(true)?;
            collected.blobs.extend(more.blobs);
            collected.layers.extend(more.layers);
            collected.bytes += more.bytes;
            doomed.push(image);
        }
    }
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

/// Takes the images' names and entries off the index.
fn forget(store: &Store, doomed: &[Image]) -> Result<()> {
    store.update(|index| {
        index.manifests.retain(|entry| {
            !doomed.iter().any(|image| {
                image.target.digest == entry.digest && crate::store::index::name_of(entry) == image.name
            })
        });
        Ok(())
    })
}

/// `10GB`, `500m`, `1073741824`; units of 1000 as `images` shows them, `KiB` and the like of 1024.
fn size(text: &str) -> Result<u64> {
    match contracts::flag::size::storage(text) {
        Some(bytes) => Ok(bytes),
        None => fault!(Usage, "invalid size '{text}': 500MB or 10GB expected"),
    }
}
