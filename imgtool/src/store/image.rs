//! Finding images: by name, by id or a part of it, by digest.

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::fault::Kind as FaultKind;

use super::Store;
use super::config::ImageConfig;
use super::digest::Digest;
use super::document::{Descriptor, Document, Kind, MAX_DOCUMENT, Manifest, Platform, is_image_config};
use super::index::{name_of, repo_digests};
use super::platform;
use crate::reference::Reference;
use crate::registry::hosts::Hosts;

/// An image in the store, for one platform.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it was found by, `None` where it was found by id.
    pub name: Option<Reference>,
    /// The manifest, with its bytes and digest.
    pub document: Document,
    /// The manifest's content.
    pub manifest: Manifest,
    /// The image's id: the digest of its config.
    pub id: Digest,
    /// The config as it came.
    pub config_bytes: Vec<u8>,
    /// The config's content.
    pub config: ImageConfig,
    /// What index.json points to: the manifest itself or an index that holds it.
    pub target: Descriptor,
    /// Every name that points to the same target.
    pub names: Vec<Reference>,
    /// The `name@digest` forms that registries know.
    pub repo_digests: Vec<Reference>,
}

impl Image {
    /// Its layers with their uncompressed digests, lowest first.
    ///
    /// # Errors
    /// Manifest and config disagree about the number of layers.
    pub fn layers(&self) -> Result<Vec<(Descriptor, Digest)>> {
        let (blobs, diff_ids) = (&self.manifest.layers, &self.config.rootfs.diff_ids);
        if blobs.len() != diff_ids.len() {
            let (blobs, diff_ids) = (blobs.len(), diff_ids.len());
            fault!(Unsupported, "image {} has {blobs} layers but {diff_ids} diff ids", self.id.short());
        }
        Ok(blobs.iter().cloned().zip(diff_ids.iter().cloned()).collect())
    }

    /// The names that an edited copy gets: those of `asked`, else the one that this image was found by.
    pub fn names_when_edited(&self, asked: &[Reference]) -> Vec<Reference> {
        if asked.is_empty() {
            return self.name.iter().filter(|name| name.digest().is_none()).cloned().collect();
        }
        asked.iter().map(|name| name.clone().or_latest()).collect()
    }

    /// The name to show: the one asked by, else the first, else the short id.
    #[must_use]
    pub fn title(&self) -> String {
        let name = self.name.as_ref().or_else(|| self.names.first());
        name.map_or_else(|| self.id.short().to_owned(), Reference::familiar)
    }
}

impl Store {
    /// The size of an image's layers unpacked, in bytes.
    #[must_use]
    pub fn unpacked_image(&self, image: &Image) -> u64 {
        let layers = image.manifest.layers.iter();
        layers.map(|layer| self.unpacked_size(layer)).fold(0, u64::saturating_add)
    }

    /// The image that `text` names, for this machine: a name (`web`, `host/web:1`, `web@sha256:…`), an id or the
    /// beginning of one.
    ///
    /// # Errors
    /// `NotFound`; `Usage` where the text is no name or the beginning of several ids.
    pub fn image(&self, text: &str) -> Result<Image> {
        self.image_for(text, &Platform::host(), false)
    }

    /// [`Store::image`] for a platform of choice; unless `strict`, an image that is the only one under its name is
    /// taken whatever its platform.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn image_for(&self, text: &str, wanted: &Platform, strict: bool) -> Result<Image> {
        let (name, target) = self.resolve(text)?;
        let image = self.load(&target, name, wanted).with_context(|| format!("image {text}"))?;
        if strict && wanted.distance(&image.config.platform()).is_none() {
            fault!(NotFound, "image {text} is for {}, not for {wanted}", image.config.platform());
        }
        Ok(image)
    }

    /// What `text` points to in `index.json` or an additional store, with its name unless it was an id. A name without a registry that is not
    /// here may be here with one that registries.conf says.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn resolve(&self, text: &str) -> Result<(Option<Reference>, Descriptor)> {
        let found = self.resolve_exactly(text);
        if !Reference::is_short(text)
            || found.as_ref().err().and_then(FaultKind::of) != Some(FaultKind::NotFound)
        {
            return found;
        }
        let hosts = Hosts::load(&self.paths)?;
        let meant = hosts.short().candidates(text).unwrap_or_default();
        let mut named = meant.iter().filter_map(|name| self.resolve_exactly(&name.to_string()).ok());
        named.next().map_or(found, Ok)
    }

    /// [`Store::resolve`] where a name without a registry is docker.io's.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn resolve_exactly(&self, text: &str) -> Result<(Option<Reference>, Descriptor)> {
        let entries = self.entries()?;
        let parsed = text.parse::<Reference>();
        if let Ok(name) = &parsed {
            if let Some(digest) = name.digest() {
                let found = entries.iter().find(|entry| {
                    let same_repository =
                        name_of(entry).is_some_and(|own| own.repository() == name.repository());
                    let known = repo_digests(entry).iter().any(|known| {
                        known.repository() == name.repository() && known.digest() == Some(digest)
                    });
                    known || (same_repository && entry.digest == *digest)
                });
                if let Some(entry) = found {
                    return Ok((Some(name.clone()), entry.clone()));
                }
            }
            let full = name.clone().or_latest();
            if let Some(entry) = entries.iter().find(|entry| name_of(entry).as_ref() == Some(&full)) {
                return Ok((Some(full), entry.clone()));
            }
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if !prefix.is_empty() && prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            if let Some(entry) = self.by_id(&entries, prefix)? {
                return Ok((None, entry));
            }
        } else if let Err(err) = parsed {
            return Err(err.into());
        }
        let shown = parsed.map_or_else(|_| text.to_owned(), |name| name.or_latest().familiar());
        fault!(NotFound, "no such image: {shown}")
    }

    /// Every image, one per entry of `index.json` (so one per name), newest first. Damaged ones are reported by
    /// [`Store::image`], not here.
    ///
    /// # Errors
    /// `index.json` is unreadable.
    pub fn images(&self) -> Result<Vec<Image>> {
        Ok(self.list(&self.entries()?))
    }

    /// [`Store::images`] without those of additional stores.
    ///
    /// # Errors
    /// As [`Store::images`].
    pub fn own_images(&self) -> Result<Vec<Image>> {
        Ok(self.list(&self.index()?.manifests))
    }

    fn list(&self, entries: &[Descriptor]) -> Vec<Image> {
        let wanted = Platform::host();
        let load = |entry: &Descriptor| self.load_among(entries, entry, name_of(entry), &wanted).ok();
        let mut images: Vec<Image> = entries.iter().filter_map(load).collect();
        images.sort_by(|a, b| b.config.created.cmp(&a.config.created));
        images
    }

    /// A manifest or index of the store.
    ///
    /// # Errors
    /// Missing, damaged, or not a manifest.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let declared = Some(descriptor.media_type.as_str()).filter(|text| !text.is_empty());
        Document::parse(self.read_blob(&descriptor.digest, MAX_DOCUMENT)?, declared)
    }

    /// The image that `target` points to, directly or through indexes.
    pub(crate) fn load(
        &self,
        target: &Descriptor,
        name: Option<Reference>,
        wanted: &Platform,
    ) -> Result<Image> {
        self.load_among(&self.entries()?, target, name, wanted)
    }

    /// [`Store::load`] where `index.json` was read already: a list would read it once per image.
    fn load_among(
        &self,
        entries: &[Descriptor],
        target: &Descriptor,
        name: Option<Reference>,
        wanted: &Platform,
    ) -> Result<Image> {
        let (document, manifest) = self.pick(target, wanted, 0)?;
        let (id, config_bytes, config) = self.config_of(&manifest)?;
        let same = entries.iter().filter(|entry| entry.digest == target.digest);
        let mut repo_digests: Vec<Reference> = same.clone().flat_map(repo_digests).collect();
        repo_digests.sort();
        repo_digests.dedup();
        let names = same.filter_map(name_of).collect();
        Ok(Image {
            name,
            document,
            manifest,
            id,
            config_bytes,
            config,
            target: target.clone(),
            names,
            repo_digests,
        })
    }

    fn config_of(&self, manifest: &Manifest) -> Result<(Digest, Vec<u8>, ImageConfig)> {
        let id = manifest.config.digest.clone();
        let bytes = self.read_blob(&id, MAX_DOCUMENT)?;
        let is_image = is_image_config(&manifest.config.media_type);
        // An artifact's config is anything; it is listed, and fails where somebody wants to run it.
        let config = if is_image { ImageConfig::parse(&bytes)? } else { ImageConfig::default() };
        Ok((id, bytes, config))
    }

    /// Follows indexes down to a manifest; a second level is all that anybody writes.
    fn pick(&self, target: &Descriptor, wanted: &Platform, depth: u32) -> Result<(Document, Manifest)> {
        let document = self.document(target)?;
        match &document.kind {
            Kind::Manifest(manifest) => {
                let manifest = manifest.clone();
                Ok((document, manifest))
            }
            Kind::Index(_) if depth >= 2 => {
                fault!(Unsupported, "indexes nested too deep at {}", target.digest)
            }
            Kind::Index(index) => match platform::select(index, wanted) {
                Some(child) => self.pick(child, wanted, depth + 1),
                None => fault!(NotFound, "no manifest for {wanted} in index {}", target.digest),
            },
        }
    }

    fn by_id(&self, entries: &[Descriptor], prefix: &str) -> Result<Option<Descriptor>> {
        let wanted = Platform::host();
        let mut found: Option<(Digest, Descriptor)> = None;
        for entry in entries {
            let Ok((_, manifest)) = self.pick(entry, &wanted, 0) else { continue };
            let id = manifest.config.digest;
            if !id.hex().starts_with(prefix) && !entry.digest.hex().starts_with(prefix) {
                continue;
            }
            match &found {
                Some((other, _)) if *other != id => {
                    fault!(Usage, "image id {prefix} is ambiguous: {} and {}", other.short(), id.short())
                }
                Some(_) => {}
                None => found = Some((id, entry.clone())),
            }
        }
        Ok(found.map(|(_, entry)| entry))
    }
}
