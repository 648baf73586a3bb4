//! A finished build as an image: one manifest, or an index over those of several platforms and what is attached to them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use contracts::fault;

use super::Built;
use super::annotation::{self, Annotation, Level};
use super::provenance::{self, Facts};
use crate::reference::Reference;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Document, Index, Kind, OCI_INDEX, Platform};
use crate::store::lease::Lease;
use crate::transfer::compress::{self, Wish};

/// What is asked for beside the files.
pub struct Finish<'a> {
    /// Notes.
    pub annotations: Vec<Annotation>,
    /// Tell how it was made.
    pub provenance: Option<&'a provenance::Wish>,
    /// How to pack the layers.
    pub packing: Option<Wish>,
    /// The names that the statement is about.
    pub names: &'a [Reference],
}

/// An image of each platform, stored under a lease.
pub struct Product {
    /// What a name points to.
    pub document: Document,
    /// The image of each platform.
    pub images: Vec<Single>,
}

/// The image of one platform.
pub struct Single {
    /// Which.
    pub platform: Platform,
    /// Its manifest.
    pub document: Document,
    /// Its id: the digest of its config.
    pub id: Digest,
}

/// Makes manifests, attestations and index of `built`; nothing of them has a name yet.
///
/// # Errors
/// A note on an index that there is none of; no space.
pub fn assemble(
    store: &Store,
    lease: &Lease,
    built: &[Built],
    facts: &[Facts<'_>],
    finish: &Finish<'_>,
) -> Result<Product> {
    let notes = &finish.annotations;
    let mut images = Vec::new();
    for one in built {
        let document = noted(store, lease, packed(store, lease, one, finish.packing)?, one, notes)?;
        let Kind::Manifest(manifest) = &document.kind else { continue };
        let id = manifest.config.digest.clone();
        images.push(Single { platform: one.platform(), document, id });
    }
    ensure!(!images.is_empty(), "nothing was built");
    let on_index = annotation::on(notes, Level::Index, None);
    if images.len() == 1 && finish.provenance.is_none() {
        if !on_index.is_empty() {
            fault!(Usage, "index annotations not supported for single platform export");
        }
        return Ok(Product { document: images[0].document.clone(), images });
    }
    let mut entries = Vec::new();
    let mut attached = Vec::new();
    for (at, image) in images.iter().enumerate() {
        let mut entry = image.document.descriptor();
        entry.platform = Some(image.platform.clone());
        entry.annotations = annotation::on(notes, Level::ManifestDescriptor, Some(&image.platform));
        entries.push(entry);
        if let (Some(wish), Some(facts)) = (finish.provenance, facts.get(at)) {
            let subject = (&image.document.digest, &image.platform);
            let statement = provenance::statement(facts, wish, finish.names, subject);
            let (_, entry) = provenance::attach(store, lease, &image.document.digest, &statement)?;
            attached.push(entry);
        }
    }
    entries.extend(attached);
    let document = index(store, lease, entries, on_index)?;
    Ok(Product { document, images })
}

fn index(
    store: &Store,
    lease: &Lease,
    manifests: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
) -> Result<Document> {
    let index = Index { schema_version: 2, media_type: OCI_INDEX.into(), manifests, annotations };
    let bytes = serde_json::to_vec(&index).context("encode the index")?;
    store.put_bytes(lease, &bytes)?;
    Document::parse(bytes, None)
}

/// The image's manifest with its layers packed as wished.
fn packed(store: &Store, lease: &Lease, built: &Built, wish: Option<Wish>) -> Result<Document> {
    let document = built.document(store, lease)?;
    let (Some(wish), Kind::Manifest(manifest)) = (wish, &document.kind) else { return Ok(document) };
    if wish.force {
        return compress::compressed(store, lease, &document, wish);
    }
    // Without force, the layers of the base stay as they came.
    let (base, made) = manifest.layers.split_at(built.base_layers().min(manifest.layers.len()));
    let mut part = manifest.clone();
    part.layers = made.to_vec();
    let part = parsed(store, lease, &part)?;
    let part = compress::compressed(store, lease, &part, Wish { force: true, ..wish })?;
    let Kind::Manifest(part) = &part.kind else { return Ok(document) };
    let mut whole = manifest.clone();
    whole.layers = base.iter().chain(&part.layers).cloned().collect();
    parsed(store, lease, &whole)
}

fn noted(
    store: &Store,
    lease: &Lease,
    document: Document,
    built: &Built,
    notes: &[Annotation],
) -> Result<Document> {
    let own = annotation::on(notes, Level::Manifest, Some(&built.platform()));
    let Kind::Manifest(manifest) = &document.kind else { return Ok(document) };
    if own.is_empty() {
        return Ok(document);
    }
    let mut manifest = manifest.clone();
    manifest.annotations.extend(own);
    parsed(store, lease, &manifest)
}

fn parsed(store: &Store, lease: &Lease, manifest: &crate::store::document::Manifest) -> Result<Document> {
    let bytes = serde_json::to_vec(manifest).context("encode the manifest")?;
    store.put_bytes(lease, &bytes)?;
    Document::parse(bytes, None)
}

impl Product {
    /// Puts it into the store's index under `names`, or nameless.
    ///
    /// # Errors
    /// The index cannot be written.
    pub fn keep(&self, store: &Store, names: &[Reference]) -> Result<()> {
        let mut target = self.document.descriptor();
        if let (Kind::Manifest(_), [image]) = (&self.document.kind, self.images.as_slice()) {
            target.platform = Some(image.platform.clone()).filter(|platform| !platform.os.is_empty());
        }
        store.update(|index| {
            for name in names {
                index.set_name(name, &target);
            }
            if names.is_empty() {
                index.add_nameless(&target);
            }
            Ok(())
        })
    }

    /// What to print: the image's id, or the digest of the index over several.
    #[must_use]
    pub fn id(&self) -> &Digest {
        match self.images.as_slice() {
            [image] => &image.id,
            _ => &self.document.digest,
        }
    }
}
