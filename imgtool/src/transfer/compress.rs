//! Packing plain layers on their way to a registry: an image that was loaded or imported has its layers as plain tars.

use std::io::{Read, Write};
use std::thread;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use contracts::fault;
use flate2::Compression;

use crate::layer::gzip::Gzip;
use crate::layer::stream::unpack;
use crate::store::Store;
use crate::store::blob::copy;
use crate::store::document::{
    DOCKER_MANIFEST, Descriptor, Document, Kind, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD, OCI_MANIFEST, Packing, packing,
};
use crate::store::lease::Lease;

/// How to pack layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// gzip, which everybody reads
    Gzip,
    /// zstd: smaller and faster to unpack, read by docker 23, podman 4 and newer
    Zstd,
}

/// What to pack, and how.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// The packing.
    pub format: Format,
    /// Its level; the format's usual one where `None`.
    pub level: Option<i32>,
    /// Also repack layers that are packed in another way.
    pub force: bool,
}

/// The manifest of the same image with its layers packed as wished; the same manifest where nothing is to do. New blobs
/// and the manifest are in the store under `lease`.
///
/// # Errors
/// A layer is missing; no space.
pub fn compressed(store: &Store, lease: &Lease, document: &Document, wish: Wish) -> Result<Document> {
    let Kind::Manifest(manifest) = &document.kind else { return Ok(document.clone()) };
    let wanted = match wish.format {
        Format::Gzip => Packing::Gzip,
        Format::Zstd => Packing::Zstd,
    };
    let needs = |layer: &Descriptor| match packing(&layer.media_type) {
        Some(Packing::Plain) => true,
        Some(own) => wish.force && own != wanted,
        None => false,
    };
    if !manifest.layers.iter().any(needs) {
        return Ok(document.clone());
    }
    // Layers one beside the other: packing is bound by the processor.
    let packed: Vec<Result<Descriptor>> = thread::scope(|scope| {
        let pack = |layer: &Descriptor| {
            let layer = layer.clone();
            scope.spawn(move || if needs(&layer) { pack_one(store, lease, &layer, wish) } else { Ok(layer) })
        };
        let threads: Vec<_> = manifest.layers.iter().map(pack).collect();
        let ended = || anyhow::anyhow!("a packing thread ended badly");
        threads.into_iter().map(|thread| thread.join().map_err(|_| ended()).and_then(|done| done)).collect()
    });
    let layers = packed.into_iter().collect::<Result<Vec<_>>>()?;
    let document = with_layers(document, manifest, layers)?;
    store.put_bytes(lease, &document.bytes)?;
    Ok(document)
}

/// The manifest `document` with other layers of the same content.
///
/// # Errors
/// None that a parsed manifest could cause.
pub(super) fn with_layers(
    document: &Document,
    manifest: &Manifest,
    layers: Vec<Descriptor>,
) -> Result<Document> {
    // Docker's types know no zstd, and a manifest must not mix the two families.
    let mut changed = Manifest { layers, media_type: OCI_MANIFEST.into(), ..manifest.clone() };
    if document.media_type == DOCKER_MANIFEST {
        changed.config.media_type = OCI_CONFIG.into();
        for layer in &mut changed.layers {
            layer.media_type = match packing(&layer.media_type) {
                Some(Packing::Plain) => OCI_LAYER.into(),
                Some(Packing::Zstd) => OCI_LAYER_ZSTD.into(),
                Some(Packing::Gzip) => OCI_LAYER_GZIP.into(),
                None => layer.media_type.clone(),
            };
        }
    }
    Document::parse(serde_json::to_vec(&changed).context("encode manifest")?, None)
}

fn pack_one(store: &Store, lease: &Lease, layer: &Descriptor, wish: Wish) -> Result<Descriptor> {
    let what = || format!("pack layer {}", layer.digest);
    let mut reader = unpack(store.open_blob(&layer.digest)?).with_context(what)?;
    let (mut writer, media_type) = pack(&mut reader, store.writer()?, wish).with_context(what)?;
    writer.flush().with_context(what)?;
    let (digest, size) = writer.commit(lease)?;
    Ok(Descriptor { media_type: media_type.into(), digest, size, ..layer.clone() })
}

/// Packs all that `reader` gives; returns the writer and the layer's media type.
///
/// # Errors
/// A level that the format does not have; either side fails.
pub(super) fn pack<W: Write>(reader: &mut dyn Read, writer: W, wish: Wish) -> Result<(W, &'static str)> {
    match wish.format {
        Format::Gzip => {
            let level = wish.level.unwrap_or(6);
            let Some(level) = u32::try_from(level).ok().filter(|level| *level <= 9) else {
                fault!(Usage, "gzip has levels 0 to 9, not {level}");
            };
            let mut encoder = Gzip::new(writer, Compression::new(level));
            copy(reader, &mut encoder)?;
            Ok((encoder.finish()?, OCI_LAYER_GZIP))
        }
        Format::Zstd => {
            let mut encoder = zstd::Encoder::new(writer, wish.level.unwrap_or(3))?;
            copy(reader, &mut encoder)?;
            Ok((encoder.finish()?, OCI_LAYER_ZSTD))
        }
    }
}
