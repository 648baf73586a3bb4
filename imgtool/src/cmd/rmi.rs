//! `imgtool rmi IMAGE...`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault::Kind;
use contracts::{fault, report};

use super::open_store;
use crate::reference::Reference;
use crate::stdout;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::Descriptor;
use crate::store::image::Image;
use crate::store::index::{name_of, remove_repo_digest};

/// Flags of `rmi`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names, ids or beginnings of ids
    #[arg(required = true)]
    images: Vec<String>,
    /// Remove an image that bundles use or that has several names; a missing image is no failure
    #[arg(short, long)]
    force: bool,
    /// Keep blobs that no image needs any more until the next `prune`
    #[arg(long)]
    no_prune: bool,
}

/// # Errors
/// The first failure; the other images are removed all the same.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let mut first = None;
    let mut removed = Vec::new();
    for text in &args.images {
        match remove(&store, text, args.force) {
            Ok(id) => removed.extend(id),
            Err(err) => {
                report::print_error("imgtool", &err);
                let missing = Kind::of(&err) == Some(Kind::NotFound);
                if !(args.force && missing) {
                    first.get_or_insert(Exit::from(&err));
                }
            }
        }
    }
    if !removed.is_empty() && !args.no_prune {
        store.collect(false)?;
        for id in removed {
            stdout::line(format!("Deleted: {id}"))?;
        }
    }
    Ok(first.unwrap_or(Exit::Ok))
}

/// Takes a name away, or all names of an id. Returns the image's id where that was its last name.
fn remove(store: &Store, text: &str, force: bool) -> Result<Option<Digest>> {
    let (name, target) = store.resolve(text)?;
    store.refuse_additional(name.as_ref(), &target)?;
    // A damaged image can be removed too.
    let image = store.load(&target, name.clone(), &crate::store::document::Platform::host()).ok();
    let own = store.index()?.manifests;
    let mut names = image.as_ref().map(|image| image.names.clone()).unwrap_or_default();
    names.retain(|name| own.iter().any(|entry| name_of(entry).as_ref() == Some(name)));
    if let Some(name) = name.as_ref().filter(|name| name.digest().is_some() && !names.is_empty()) {
        // Tags hold the image: only the registry's name for it goes.
        store.update(|index| {
            let same = index.manifests.iter_mut().filter(|entry| entry.digest == target.digest);
            same.for_each(|entry| {
                remove_repo_digest(entry, name);
            });
            Ok(())
        })?;
        stdout::line(format!("Untagged: {}", name.familiar()))?;
        return Ok(None);
    }
    let last = name.is_none() || names.len() <= 1;
    if name.is_none() && names.len() > 1 && !force {
        fault!(Exists, "cannot delete {text}: image is referenced in multiple repositories (force with -f)");
    }
    if last && !force {
        refuse_if_used(store, text, image.as_ref())?;
    }
    store.update(|index| {
        match name.as_ref().filter(|name| name.digest().is_none()) {
            Some(name) => {
                index.drop_name(&name.to_string(), false);
            }
            None => index.manifests.retain(|entry| entry.digest != target.digest),
        }
        Ok(())
    })?;
    print_untagged(name.as_ref(), &names, image.as_ref(), last)?;
    let still = store.entries()?.iter().any(|entry| entry.digest == target.digest);
    Ok((!still).then(|| id_of(image.as_ref(), &target)))
}

fn id_of(image: Option<&Image>, target: &Descriptor) -> Digest {
    image.map_or_else(|| target.digest.clone(), |image| image.id.clone())
}

fn print_untagged(
    name: Option<&Reference>,
    names: &[Reference],
    image: Option<&Image>,
    last: bool,
) -> Result<()> {
    let gone: Vec<&Reference> = match name.filter(|name| name.digest().is_none()) {
        Some(name) => vec![name],
        None => names.iter().collect(),
    };
    for name in gone {
        stdout::line(format!("Untagged: {}", name.familiar()))?;
    }
    if last {
        for known in image.iter().flat_map(|image| &image.repo_digests) {
            stdout::line(format!("Untagged: {}", known.familiar()))?;
        }
    }
    Ok(())
}

fn refuse_if_used(store: &Store, text: &str, image: Option<&Image>) -> Result<()> {
    let Some(image) = image else { return Ok(()) };
    let bundles = store.bundles()?;
    let user = bundles.iter().find(|(_, record)| record.image_id.as_ref() == Some(&image.id));
    if let Some((bundle, _)) = user {
        let id = image.id.short();
        fault!(Exists, "cannot remove {text}: container {bundle} is using its image {id} (force with -f)");
    }
    Ok(())
}
