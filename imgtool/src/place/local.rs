//! The store as a place.

use std::io::{Read, Seek as _, SeekFrom};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::{Sink, Source};
use crate::layer::extracted::Layers;
use crate::layer::incoming::Incoming;
use crate::reference::Reference;
use crate::store::Store;
use crate::store::blob::{Partial, copy, untangled};
use crate::store::config::ImageConfig;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Document, Kind, MAX_DOCUMENT, Manifest, Platform, is_image_config};
use crate::store::index::{add_repo_digest, name_of};
use crate::store::lease::Lease;
use crate::transfer::progress::Bar;

/// An image in the store.
pub struct LocalSource<'s> {
    store: &'s Store,
    target: Descriptor,
    known: Vec<Reference>,
}

impl<'s> LocalSource<'s> {
    /// What `target` points to; `known` are the names that registries have it under.
    pub fn new(store: &'s Store, target: Descriptor, known: Vec<Reference>) -> Self {
        Self { store, target, known }
    }
}

impl Source for LocalSource<'_> {
    fn top(&self) -> Result<Document> {
        self.store.document(&self.target)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        self.store.document(descriptor)
    }

    fn blob<'a>(&'a self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        let mut file = self.store.open_blob(&descriptor.digest)?;
        file.seek(SeekFrom::Start(offset)).with_context(|| format!("read blob {}", descriptor.digest))?;
        Ok(Box::new(file))
    }

    fn siblings(&self, host: &str) -> Vec<String> {
        let same = self.known.iter().filter(|name| name.domain() == host);
        let mut paths: Vec<String> = same.map(|name| name.path().to_owned()).collect();
        paths.dedup();
        paths
    }
}

/// The store as a target: everything is held by `lease` until the top manifest has its names.
pub struct LocalSink<'s> {
    store: &'s Store,
    lease: &'s Lease,
    names: Vec<Reference>,
    known_as: Option<Reference>,
    unpacking: Option<Unpacking>,
}

/// The layers of the images for this machine, extracted while they come in.
struct Unpacking {
    layers: Layers,
    /// What to extract, lowest first; known when the configs are here.
    wanted: OnceLock<Vec<(Descriptor, Digest)>>,
}

impl<'s> LocalSink<'s> {
    /// Stores an image under `names`; `known_as` is its `name@digest` in the registry it comes from.
    pub fn new(
        store: &'s Store,
        lease: &'s Lease,
        names: Vec<Reference>,
        known_as: Option<Reference>,
    ) -> Self {
        Self { store, lease, names, known_as, unpacking: None }
    }

    /// Extracts the layers too, those of images for this machine, while their blobs come in.
    ///
    /// # Errors
    /// The directory of layers cannot be made.
    pub fn unpacking(self) -> Result<Self> {
        let layers = Layers::open(self.store.paths())?;
        Ok(Self { unpacking: Some(Unpacking { layers, wanted: OnceLock::new() }), ..self })
    }

    /// Starts extracting what `partial` receives, where that is a layer to extract.
    fn extract(&self, descriptor: &Descriptor, partial: &Partial) -> Result<Option<Incoming>> {
        let Some(unpacking) = &self.unpacking else { return Ok(None) };
        let wanted = unpacking.wanted.get().map_or(&[][..], Vec::as_slice);
        let Some((_, diff_id)) = wanted.iter().find(|(blob, _)| blob.digest == descriptor.digest) else {
            return Ok(None);
        };
        unpacking
            .layers
            .incoming(descriptor, diff_id, partial.follow()?)
            .with_context(|| format!("layer {}", diff_id.short()))
    }

    /// Reads a blob into its half-received form, which outlives this command if it dies.
    fn receive(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar, fresh: bool) -> Result<bool> {
        let mut partial = self.store.partial(&descriptor.digest)?;
        // Another command may have finished it while we waited for the lock.
        if self.store.has(&descriptor.digest) {
            return Ok(false);
        }
        if fresh {
            partial.restart()?;
        }
        let had = partial.resume(descriptor.size)?;
        bar.set(had);
        let layer = self.extract(descriptor, &partial)?;
        if had < descriptor.size {
            let reader = source.blob(descriptor, had)?;
            // A place that is no registry may hold more than it should; a byte more shows it.
            let mut reader = bar.reading(reader).take(descriptor.size - had + 1);
            copy(&mut reader, &mut partial)
                .map_err(untangled)
                .with_context(|| format!("store blob {}", descriptor.digest))?;
        }
        if partial.size() != descriptor.size {
            let size = partial.size();
            partial.restart()?;
            anyhow::bail!("blob {} should have {} bytes, not {size}", descriptor.digest, descriptor.size);
        }
        if layer.is_some() {
            bar.now("Extracting");
        }
        match partial.commit() {
            // What an earlier command left may have been wrong; what we read now is believed wrong only if all is ours.
            Err(_) if had > 0 => {
                drop(layer);
                self.receive(descriptor, source, bar, true)
            }
            Err(err) => Err(err),
            Ok(()) => {
                if let Some(layer) = layer {
                    layer.publish(self.store, &descriptor.digest)?;
                }
                Ok(true)
            }
        }
    }
}

impl Sink for LocalSink<'_> {
    fn announce(&self, blobs: &[Descriptor]) -> Result<()> {
        self.lease.hold(blobs.iter().map(|blob| &blob.digest))
    }

    fn prepare(&self, manifests: &[Document]) -> Result<()> {
        let Some(unpacking) = &self.unpacking else { return Ok(()) };
        let mut wanted = Vec::new();
        for document in manifests {
            let Kind::Manifest(manifest) = &document.kind else { continue };
            if !is_image_config(&manifest.config.media_type) {
                continue;
            }
            let config = checked(&self.store.read_blob(&manifest.config.digest, MAX_DOCUMENT)?, manifest)?;
            if Platform::host().distance(&config.platform()).is_some() {
                wanted.extend(manifest.layers.iter().cloned().zip(config.rootfs.diff_ids));
            }
        }
        self.lease.hold(wanted.iter().map(|(_, diff_id)| diff_id))?;
        let _ = unpacking.wanted.set(wanted);
        Ok(())
    }

    fn put(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar) -> Result<()> {
        if self.store.size_of(&descriptor.digest) == Some(descriptor.size) {
            bar.done("Already exists");
            return Ok(());
        }
        let received = self.receive(descriptor, source, bar, false)?;
        bar.done(if received { "Pull complete" } else { "Already exists" });
        Ok(())
    }

    fn put_document(&self, document: &Document, top: bool) -> Result<()> {
        let config = match &document.kind {
            Kind::Manifest(manifest) => {
                let bytes = self.store.read_blob(&manifest.config.digest, MAX_DOCUMENT)?;
                if is_image_config(&manifest.config.media_type) {
                    Some(checked(&bytes, manifest)?)
                } else {
                    None
                }
            }
            Kind::Index(_) => None,
        };
        self.store.put_bytes(self.lease, &document.bytes)?;
        if !top {
            return Ok(());
        }
        if let Some(Unpacking { layers, wanted }) = &self.unpacking {
            // Those whose blobs were here before, or that another command was at.
            layers.ensure(self.store, wanted.get().map_or(&[][..], Vec::as_slice), None)?;
        }
        let mut target = document.descriptor();
        target.platform = config.map(|config| config.platform()).filter(|platform| !platform.os.is_empty());
        self.store.update(|index| {
            for name in &self.names {
                index.set_name(name, &target);
            }
            if self.names.is_empty() {
                index.add_nameless(&target);
            }
            if let Some(known) = &self.known_as {
                for entry in index.manifests.iter_mut().filter(|entry| entry.digest == target.digest) {
                    let ours = self.names.is_empty()
                        || name_of(entry).is_some_and(|name| self.names.contains(&name));
                    if ours {
                        add_repo_digest(entry, known);
                    }
                }
            }
            Ok(())
        })
    }
}

/// The config of an image that fits its manifest; anything else could never be unpacked.
fn checked(bytes: &[u8], manifest: &Manifest) -> Result<ImageConfig> {
    let config = ImageConfig::parse(bytes)?;
    let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
    if layers != diff_ids {
        fault!(Unsupported, "manifest names {layers} layers, its config {diff_ids}");
    }
    Ok(config)
}
