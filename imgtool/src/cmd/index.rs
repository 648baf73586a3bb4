//! `imgtool index create|add|annotate|remove|inspect`: images for several platforms under one name, in the store.

use anyhow::{Context as _, Result};
use clap::Subcommand;
use contracts::exit::Exit;
use contracts::fault;

use crate::reference::Reference;
use crate::stdout;
use crate::store::Store;
use crate::store::config::ImageConfig;
use crate::store::digest::Digest;
use crate::store::document::{
    Descriptor, Document, Index, Kind, MAX_DOCUMENT, OCI_INDEX, Platform, is_image_config,
};
use crate::store::lease::Lease;

/// Put images for several platforms under one name
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imgtool index create web:1 web:1-amd64 web:1-arm64\n  \
                        imgtool push web:1 registry.example/web:1")]
pub struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make an index of images (of an index, all its images)
    Create {
        /// The index's name
        name: String,
        /// Images of the store
        images: Vec<String>,
        /// Replace what has the name
        #[arg(short, long)]
        amend: bool,
    },
    /// Add images to an index
    Add {
        /// The index's name
        name: String,
        /// Images of the store
        #[arg(required = true)]
        images: Vec<String>,
        /// For which platform, where the image itself does not say
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<Platform>,
        /// Notes beside the images
        #[arg(long, value_name = "KEY=VALUE")]
        annotation: Vec<String>,
    },
    /// Change what an index says of one of its images
    Annotate {
        /// The index's name
        name: String,
        /// The image's digest, or its name in the store
        image: String,
        /// For which platform
        #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
        platform: Option<Platform>,
        /// Notes beside the image
        #[arg(long, value_name = "KEY=VALUE")]
        annotation: Vec<String>,
    },
    /// Print an index as it is
    Inspect {
        /// The index's name
        name: String,
    },
    /// Take images out of an index
    Remove {
        /// The index's name
        name: String,
        /// Digests of images, or their names in the store
        #[arg(required = true)]
        images: Vec<String>,
    },
}

/// # Errors
/// No such image or index; no space.
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let lease = store.lease()?;
    let (name, index) = match &args.command {
        Verb::Inspect { name } => {
            let index = open(&store, &lease, name)?;
            stdout::line(serde_json::to_string_pretty(&index)?)?;
            return Ok(Exit::Ok);
        }
        Verb::Create { name, images, amend } => {
            if !amend && store.resolve_exactly(name).is_ok() {
                fault!(Exists, "{name} exists: --amend replaces it");
            }
            let mut index = Index::default();
            for image in images {
                put_all(&mut index, children(&store, &lease, image)?);
            }
            (name, index)
        }
        Verb::Add { name, images, platform, annotation } => {
            let mut index = open(&store, &lease, name)?;
            for image in images {
                let mut added = children(&store, &lease, image)?;
                for entry in &mut added {
                    describe(entry, platform.as_ref(), annotation)?;
                }
                put_all(&mut index, added);
            }
            (name, index)
        }
        Verb::Annotate { name, image, platform, annotation } => {
            let mut index = open(&store, &lease, name)?;
            let digest = digest_of(&store, image)?;
            let Some(entry) = index.manifests.iter_mut().find(|entry| entry.digest == digest) else {
                fault!(NotFound, "{image} is not in {name}");
            };
            describe(entry, platform.as_ref(), annotation)?;
            (name, index)
        }
        Verb::Remove { name, images } => {
            let mut index = open(&store, &lease, name)?;
            for image in images {
                let digest = digest_of(&store, image)?;
                let before = index.manifests.len();
                index.manifests.retain(|entry| entry.digest != digest);
                if index.manifests.len() == before {
                    fault!(NotFound, "{image} is not in {name}");
                }
            }
            (name, index)
        }
    };
    let digest = save(&store, &lease, name, &index)?;
    stdout::line(digest.to_string())?;
    Ok(Exit::Ok)
}

fn open(store: &Store, lease: &Lease, name: &str) -> Result<Index> {
    let (_, target) = store.resolve(name)?;
    lease.hold_all(&target)?;
    match store.document(&target)?.kind {
        Kind::Index(index) => Ok(index),
        Kind::Manifest(_) => fault!(WrongState, "{name} is a single image, not an index"),
    }
}

/// What stands for an image in an index: one descriptor, or all of another index.
fn children(store: &Store, lease: &Lease, image: &str) -> Result<Vec<Descriptor>> {
    let (_, target) = store.resolve(image)?;
    lease.hold_all(&target)?;
    let document = store.document(&target)?;
    let manifest = match &document.kind {
        Kind::Index(index) => return Ok(index.manifests.clone()),
        Kind::Manifest(manifest) => manifest,
    };
    let mut entry = document.descriptor();
    if is_image_config(&manifest.config.media_type) {
        let config = ImageConfig::parse(&store.read_blob(&manifest.config.digest, MAX_DOCUMENT)?)?;
        entry.platform = Some(config.platform()).filter(|platform| !platform.os.is_empty());
    }
    entry.artifact_type.clone_from(&manifest.artifact_type);
    Ok(vec![entry])
}

/// Newer entries take the place of those with the same digest.
fn put_all(index: &mut Index, entries: Vec<Descriptor>) {
    for entry in entries {
        index.manifests.retain(|own| own.digest != entry.digest);
        index.manifests.push(entry);
    }
}

fn describe(entry: &mut Descriptor, platform: Option<&Platform>, annotations: &[String]) -> Result<()> {
    if let Some(platform) = platform {
        entry.platform = Some(platform.clone());
    }
    for text in annotations {
        let Some((key, value)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            fault!(Usage, "invalid annotation '{text}': KEY=VALUE expected");
        };
        entry.annotations.insert(key.into(), value.into());
    }
    Ok(())
}

fn digest_of(store: &Store, text: &str) -> Result<Digest> {
    match text.parse() {
        Ok(digest) => Ok(digest),
        Err(_) => Ok(store.resolve(text)?.1.digest),
    }
}

fn save(store: &Store, lease: &Lease, name: &str, index: &Index) -> Result<Digest> {
    let name = name.parse::<Reference>()?.or_latest();
    let bytes = serde_json::to_vec(index).context("encode the index")?;
    let document = Document::parse(bytes, Some(OCI_INDEX))?;
    store.put_bytes(lease, &document.bytes)?;
    store.update(|names| {
        names.set_name(&name, &document.descriptor());
        Ok(())
    })?;
    Ok(document.digest)
}
