//! Moving images between places: which manifests, then their blobs in parallel, then the manifests.

pub mod compress;
mod parallel;
pub mod progress;
pub mod pull;
pub mod repack;

use std::collections::HashSet;
use std::io::Read as _;

use anyhow::{Context as _, Result};
use contracts::fault;

use self::parallel::each;
use self::progress::Progress;
use self::repack::Repack;
use crate::place::{Sink, Source};
use crate::store::config::ImageConfig;
use crate::store::document::{Descriptor, Document, Index, Kind, MAX_DOCUMENT, Manifest, Platform};
use crate::store::platform;

/// Which images of an index to move.
#[derive(Debug, Clone)]
pub enum Platforms {
    /// The best for one platform; the index itself stays behind. With `strict`, a single image must fit too.
    One {
        /// The platform.
        platform: Platform,
        /// Asked for by the user.
        strict: bool,
    },
    /// These, under an index that lists only them.
    List(Vec<Platform>),
    /// Everything, byte for byte.
    All,
}

impl Platforms {
    /// From the flags `--platform` and `--all`.
    #[must_use]
    pub fn from_flags(listed: &[Platform], all: bool) -> Self {
        match listed {
            _ if all => Self::All,
            [] => Self::One { platform: Platform::host(), strict: false },
            [one] => Self::One { platform: one.clone(), strict: true },
            several => Self::List(several.to_vec()),
        }
    }
}

/// How to move.
pub struct Options {
    /// Which images.
    pub platforms: Platforms,
    /// Blobs at a time.
    pub jobs: usize,
    /// Where to show progress.
    pub progress: Progress,
    /// How to repack the layers on the way.
    pub repack: Option<Repack>,
}

/// What was moved.
pub struct Moved {
    /// What the source has under the name.
    pub asked: Document,
    /// What the sink has now: the same, or the manifest for the platform.
    pub stored: Document,
}

/// Moves what `source` has to `sink`.
///
/// # Errors
/// The first failure of either; the sink's name then points to what it pointed to before.
pub fn transfer(source: &dyn Source, sink: &dyn Sink, options: &Options) -> Result<Moved> {
    let asked = source.top()?;
    transfer_document(source, sink, options, asked)
}

/// [`transfer`] of a top document that was fetched already.
///
/// # Errors
/// As [`transfer`].
pub fn transfer_document(
    source: &dyn Source,
    sink: &dyn Sink,
    options: &Options,
    asked: Document,
) -> Result<Moved> {
    let mut manifests = Vec::new();
    let mut stored = choose(source, options, &asked, &mut manifests, 0)?;
    let repacked;
    let source: &dyn Source = match &options.repack {
        Some(repack) => {
            repacked = repack.run(source, &manifests, options.jobs)?;
            stored = repacked.of(&stored);
            manifests = manifests.iter().map(|document| repacked.of(document)).collect();
            &repacked
        }
        None => source,
    };
    let (blobs, configs) = blobs_of(&manifests)?;
    sink.announce(&blobs)?;
    let (configs, layers) = blobs.split_at(configs);
    move_blobs(source, sink, configs, options)?;
    sink.prepare(&manifests)?;
    move_blobs(source, sink, layers, options)?;
    for document in manifests.iter().filter(|document| document.digest != stored.digest) {
        sink.put_document(document, false)?;
    }
    sink.put_document(&stored, true)?;
    Ok(Moved { asked, stored })
}

/// Fills `manifests` with every document to move (children before their index) and returns the top one.
fn choose(
    source: &dyn Source,
    options: &Options,
    asked: &Document,
    manifests: &mut Vec<Document>,
    depth: u32,
) -> Result<Document> {
    let Kind::Index(index) = &asked.kind else {
        if let (Platforms::One { platform, strict: true }, Kind::Manifest(manifest)) =
            (&options.platforms, &asked.kind)
        {
            check_platform(source, manifest, platform)?;
        }
        manifests.push(asked.clone());
        return Ok(asked.clone());
    };
    match &options.platforms {
        Platforms::One { platform, .. } => {
            let Some(child) = platform::select(index, platform) else {
                fault!(NotFound, "no matching manifest for {platform} in the manifest list entries");
            };
            // An index in an index is all that anybody writes; what the store could not read again is not taken.
            if depth >= 2 {
                fault!(Unsupported, "indexes nested too deep at {}", asked.digest);
            }
            let child = fetch(source, child)?;
            choose(source, options, &child, manifests, depth + 1)
        }
        Platforms::List(wanted) => {
            let mut sparse = Index { manifests: Vec::new(), ..index.clone() };
            for platform in wanted {
                let Some(child) = platform::select(index, platform) else {
                    fault!(NotFound, "no matching manifest for {platform} in the manifest list entries");
                };
                if !sparse.manifests.iter().any(|known| known.digest == child.digest) {
                    manifests.push(fetch(source, child)?);
                    sparse.manifests.push(child.clone());
                }
            }
            let bytes = serde_json::to_vec(&sparse).context("encode index")?;
            let document = Document::parse(bytes, Some(&asked.media_type))?;
            manifests.push(document.clone());
            Ok(document)
        }
        Platforms::All => {
            add_all(source, asked, manifests, 0)?;
            Ok(asked.clone())
        }
    }
}

/// A single image is taken for a platform that the user asked for only if its config says so.
fn check_platform(source: &dyn Source, manifest: &Manifest, wanted: &Platform) -> Result<()> {
    let mut bytes = Vec::new();
    let reader = source.blob(&manifest.config, 0)?;
    reader.take(MAX_DOCUMENT).read_to_end(&mut bytes).context("read image config")?;
    let own = ImageConfig::parse(&bytes)?.platform();
    if wanted.distance(&own).is_none() {
        fault!(NotFound, "the image is for {own} and was not built for {wanted}");
    }
    Ok(())
}

fn add_all(
    source: &dyn Source,
    document: &Document,
    manifests: &mut Vec<Document>,
    depth: u32,
) -> Result<()> {
    if manifests.len() > 1000 || depth > 3 {
        fault!(Unsupported, "index {} has too many manifests or nests too deep", document.digest);
    }
    if let Kind::Index(index) = &document.kind {
        for child in &index.manifests {
            if !manifests.iter().any(|known| known.digest == child.digest) {
                add_all(source, &fetch(source, child)?, manifests, depth + 1)?;
            }
        }
    }
    manifests.push(document.clone());
    Ok(())
}

fn fetch(source: &dyn Source, descriptor: &Descriptor) -> Result<Document> {
    let document = source.document(descriptor)?;
    if document.digest != descriptor.digest && !descriptor.digest.matches(&document.bytes) {
        fault!(
            Remote,
            "manifest {} has the wrong content: its digest is {}",
            descriptor.digest,
            document.digest
        );
    }
    Ok(document)
}

/// Every blob once, and how many of them are configs. Those are first: they tell what the layers are.
fn blobs_of(manifests: &[Document]) -> Result<(Vec<Descriptor>, usize)> {
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    let images: Vec<&Manifest> = manifests
        .iter()
        .filter_map(|document| match &document.kind {
            Kind::Manifest(manifest) => Some(manifest),
            Kind::Index(_) => None,
        })
        .collect();
    let configs = images.iter().map(|manifest| &manifest.config);
    let all = configs.map(|config| (config, true));
    let layers = images.iter().flat_map(|manifest| &manifest.layers).map(|layer| (layer, false));
    let mut configs = 0;
    for (blob, is_config) in all.chain(layers) {
        if seen.insert(&blob.digest) {
            blobs.push(blob.clone());
            configs += usize::from(is_config);
        } else if blobs.iter().any(|known| known.digest == blob.digest && known.size != blob.size) {
            fault!(Remote, "blob {} is named with two different sizes", blob.digest);
        }
    }
    Ok((blobs, configs))
}

fn move_blobs(source: &dyn Source, sink: &dyn Sink, blobs: &[Descriptor], options: &Options) -> Result<()> {
    each(blobs, options.jobs, |blob| sink.put(blob, source, &options.progress.bar(blob)))
}
