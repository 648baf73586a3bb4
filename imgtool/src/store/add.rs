//! Adding an image made here: config and layers become a manifest, and the manifest gets its names, in that order.

use anyhow::{Context as _, Result};

use super::Store;
use super::config::ImageConfig;
use super::document::{Descriptor, Document, Manifest, OCI_CONFIG, OCI_MANIFEST, in_oci};
use super::image::Image;
use super::lease::Lease;
use crate::reference::Reference;

impl Store {
    /// Stores an image of `config` (its exact bytes; the digest is the image's id) over `layers` (blobs already in
    /// the store under `lease`, lowest first) and points `names` to it. Without names it is listed as `<none>`.
    ///
    /// # Errors
    /// The config does not parse or names another number of layers; no space.
    pub fn add_image(
        &self,
        lease: &Lease,
        config: &[u8],
        layers: Vec<Descriptor>,
        names: &[Reference],
    ) -> Result<Image> {
        let (document, parsed) = self.put_image(lease, config, layers)?;
        self.add_document(lease, &document, Some(parsed), names)
    }

    /// Stores config and manifest of an image without listing it.
    ///
    /// # Errors
    /// As [`Store::add_image`].
    pub fn put_image(
        &self,
        lease: &Lease,
        config: &[u8],
        mut layers: Vec<Descriptor>,
    ) -> Result<(Document, ImageConfig)> {
        for layer in &mut layers {
            layer.media_type = in_oci(&layer.media_type).to_owned();
        }
        let parsed = ImageConfig::parse(config)?;
        anyhow::ensure!(
            parsed.rootfs.diff_ids.len() == layers.len(),
            "image config names {} layers, there are {}",
            parsed.rootfs.diff_ids.len(),
            layers.len()
        );
        let digest = self.put_bytes(lease, config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            artifact_type: None,
            config: Descriptor::new(OCI_CONFIG, digest, config.len() as u64),
            layers,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).context("encode manifest")?;
        self.put_bytes(lease, &bytes)?;
        Ok((Document::parse(bytes, None)?, parsed))
    }

    /// Stores a manifest or index whose blobs are in the store under `lease`, and points `names` to it.
    ///
    /// # Errors
    /// No space; a blob is missing.
    pub fn add_document(
        &self,
        lease: &Lease,
        document: &Document,
        config: Option<ImageConfig>,
        names: &[Reference],
    ) -> Result<Image> {
        lease.hold([&document.digest])?;
        self.put_bytes(lease, &document.bytes)?;
        let mut target = document.descriptor();
        target.platform =
            config.as_ref().map(ImageConfig::platform).filter(|platform| !platform.os.is_empty());
        self.update(|index| {
            for name in names {
                index.set_name(name, &target);
            }
            if names.is_empty() {
                index.add_nameless(&target);
            }
            Ok(())
        })?;
        let wanted = config.map_or_else(super::document::Platform::host, |config| config.platform());
        self.load(&target, names.first().cloned(), &wanted)
    }
}
