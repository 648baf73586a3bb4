//! Repacking layers on their way between two places: nothing is stored, each layer stands in a file without a name until
//! it is sent.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use contracts::fault;

use super::compress::{Format, Wish, pack, with_layers};
use super::parallel::each;
use crate::layer::stream::unpack;
use crate::place::Source;
use crate::store::Store;
use crate::store::blob::{copy, untangled};
use crate::store::digest::{Algorithm, Digest, Hasher};
use crate::store::document::{Descriptor, Document, Kind, OCI_LAYER, Packing, packing};

/// What layers shall become.
#[derive(Debug, Clone)]
pub struct Repack {
    /// Packed like this; plain tars where `None`.
    pub wish: Option<Wish>,
    /// Where the files are that have no name.
    pub store: Store,
}

impl Repack {
    /// Packs all layers of `manifests` anew that are packed in another way.
    ///
    /// # Errors
    /// A layer is not what its digest says; the source fails; no space.
    pub(super) fn run<'a>(
        &self,
        source: &'a dyn Source,
        manifests: &[Document],
        jobs: usize,
    ) -> Result<Repacked<'a>> {
        let mut layers: Vec<Descriptor> = Vec::new();
        for document in manifests {
            let Kind::Manifest(manifest) = &document.kind else { continue };
            for layer in manifest.layers.iter().filter(|layer| self.changes(layer)) {
                if !layers.iter().any(|known| known.digest == layer.digest) {
                    layers.push(layer.clone());
                }
            }
        }
        let made = Mutex::new(HashMap::new());
        each(&layers, jobs, |layer| {
            let packed =
                self.layer(source, layer).with_context(|| format!("repack layer {}", layer.digest))?;
            made.lock().unwrap_or_else(PoisonError::into_inner).insert(layer.digest.clone(), packed);
            Ok(())
        })?;
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        Repacked::new(source, manifests, made)
    }

    fn changes(&self, layer: &Descriptor) -> bool {
        let Some(own) = packing(&layer.media_type) else { return false };
        let Some(wish) = self.wish else { return own != Packing::Plain };
        let wanted = match wish.format {
            Format::Gzip => Packing::Gzip,
            Format::Zstd => Packing::Zstd,
        };
        // A level is asked for to have it, also of what is packed already.
        own == Packing::Plain || (wish.force && (own != wanted || wish.level.is_some()))
    }

    fn layer(&self, source: &dyn Source, layer: &Descriptor) -> Result<(Descriptor, File)> {
        // Unpacking wants a reader that it may keep, so what comes in is a file too.
        let mut incoming = Hashing::new(self.store.nameless()?, layer.digest.algorithm());
        let mut reader = source.blob(layer, 0)?.take(layer.size.saturating_add(1));
        copy(&mut reader, &mut incoming).map_err(untangled)?;
        let (found, size, incoming) = incoming.finish();
        if size != layer.size || found != layer.digest {
            fault!(Remote, "it has the wrong content: its digest is {found}, its size {size}");
        }
        let mut content = unpack(At { file: incoming, at: 0 })?;
        let out = Hashing::new(self.store.nameless()?, Algorithm::Sha256);
        let (out, media_type) = match self.wish {
            Some(wish) => pack(&mut content, out, wish)?,
            None => {
                let mut out = out;
                copy(&mut content, &mut out)?;
                (out, OCI_LAYER)
            }
        };
        let (digest, size, file) = out.finish();
        Ok((Descriptor { media_type: media_type.into(), digest, size, ..layer.clone() }, file))
    }
}

/// A source whose layers were repacked.
pub(super) struct Repacked<'a> {
    source: &'a dyn Source,
    files: HashMap<Digest, File>,
    /// By the digest that the source has them under.
    documents: HashMap<Digest, Document>,
}

impl<'a> Repacked<'a> {
    fn new(
        source: &'a dyn Source,
        manifests: &[Document],
        made: HashMap<Digest, (Descriptor, File)>,
    ) -> Result<Self> {
        let mut documents: HashMap<Digest, Document> = HashMap::new();
        // Children come before their index.
        for document in manifests {
            let changed = match &document.kind {
                Kind::Manifest(manifest) => {
                    if !manifest.layers.iter().any(|layer| made.contains_key(&layer.digest)) {
                        continue;
                    }
                    let new = |layer: &Descriptor| match made.get(&layer.digest) {
                        Some((packed, _)) => {
                            Descriptor { annotations: layer.annotations.clone(), ..packed.clone() }
                        }
                        None => layer.clone(),
                    };
                    with_layers(document, manifest, manifest.layers.iter().map(new).collect())?
                }
                Kind::Index(index) => {
                    let mut index = index.clone();
                    for child in &mut index.manifests {
                        if let Some(changed) = documents.get(&child.digest) {
                            child.digest = changed.digest.clone();
                            child.size = changed.bytes.len() as u64;
                            child.media_type.clone_from(&changed.media_type);
                        }
                    }
                    let bytes = serde_json::to_vec(&index).context("encode index")?;
                    Document::parse(bytes, Some(&document.media_type))?
                }
            };
            documents.insert(document.digest.clone(), changed);
        }
        let files = made.into_values().map(|(descriptor, file)| (descriptor.digest, file)).collect();
        Ok(Self { source, files, documents })
    }

    /// What became of a manifest or index of the source.
    pub(super) fn of(&self, document: &Document) -> Document {
        self.documents.get(&document.digest).unwrap_or(document).clone()
    }
}

impl Source for Repacked<'_> {
    fn top(&self) -> Result<Document> {
        Ok(self.of(&self.source.top()?))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        match self.documents.values().find(|document| document.digest == descriptor.digest) {
            Some(document) => Ok(document.clone()),
            None => self.source.document(descriptor),
        }
    }

    fn blob<'a>(&'a self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        match self.files.get(&descriptor.digest) {
            Some(file) => {
                let file = file.try_clone().with_context(|| format!("read layer {}", descriptor.digest))?;
                Ok(Box::new(At { file, at: offset }))
            }
            None => self.source.blob(descriptor, offset),
        }
    }

    fn siblings(&self, host: &str) -> Vec<String> {
        self.source.siblings(host)
    }
}

/// Reads a file from a place of its own, whoever else reads it.
struct At {
    file: File,
    at: u64,
}

impl Read for At {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Writes, hashes and counts.
struct Hashing {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Hashing {
    fn new(file: File, algorithm: Algorithm) -> Self {
        Self { file, hasher: Hasher::new(algorithm), size: 0 }
    }

    fn finish(self) -> (Digest, u64, File) {
        (self.hasher.finish(), self.size, self.file)
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
