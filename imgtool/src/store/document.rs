//! Manifests, indexes and descriptors: Docker's and OCI's spelling, read leniently, kept as the bytes they came as.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use contracts::fault;
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An uncompressed layer.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A gzip layer.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A zstd layer.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's manifest, version 2 schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// Registries must accept manifests up to this size; anything longer is an attack (CVE-2020-1702).
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// More layers than any builder writes (docker stops at 127).
const MAX_LAYERS: usize = 500;

/// A pointer to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Foreign places to fetch it from; never used (CVE-2020-15157), only carried along.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Which machines a manifest is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A pointer without extras.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }
}

/// `os/architecture[/variant]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// CPU in Go's spelling.
    #[serde(default)]
    pub architecture: String,
    /// Operating system in Go's spelling.
    #[serde(default)]
    pub os: String,
    /// Operating system version (Windows).
    #[serde(default, rename = "os.version", skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// CPU variant, `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// An image manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// Its own media type; may be missing in OCI manifests.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// What an artifact is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image config.
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// What it is about (referrers).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An index of manifests, also the `index.json` of a layout.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests (or further indexes).
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// Free-form notes.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: OCI_INDEX.into(),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// What a manifest's bytes turned out to be.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // a handful exist at a time
pub enum Kind {
    /// One image.
    Manifest(Manifest),
    /// Several.
    Index(Index),
}

/// A manifest or index with the bytes that its digest is made of.
#[derive(Debug, Clone)]
pub struct Document {
    /// As received; never re-encoded.
    pub bytes: Vec<u8>,
    /// Digest of `bytes`.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its content.
    pub kind: Kind,
}

impl Document {
    /// Parses `bytes`; `declared` is the media type that the carrier told, used where the document has none.
    ///
    /// # Errors
    /// Not JSON, too long, of an unknown kind, or both manifest and index at once (CVE-2021-41190).
    pub fn parse(bytes: Vec<u8>, declared: Option<&str>) -> Result<Self> {
        if bytes.len() as u64 > MAX_DOCUMENT {
            fault!(Unsupported, "manifest of {} bytes is longer than {MAX_DOCUMENT}", bytes.len());
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            #[serde(default)]
            media_type: Option<String>,
            #[serde(default)]
            schema_version: u32,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let head: Head = serde_json::from_slice(&bytes).context("parse manifest")?;
        if head.schema_version == 1 {
            fault!(
                Unsupported,
                "Docker's manifest schema 1 is not supported: push the image again with a newer tool"
            );
        }
        let is_index = head.manifests.is_some();
        if is_index && (head.config.is_some() || head.layers.is_some()) {
            fault!(Unsupported, "manifest has both layers and manifests: refused as ambiguous");
        }
        let written = head.media_type.filter(|text| !text.is_empty());
        let media_type = written.clone().or_else(|| declared.filter(|text| is_known(text)).map(Into::into));
        let media_type =
            media_type.unwrap_or_else(|| if is_index { OCI_INDEX } else { OCI_MANIFEST }.to_owned());
        let says_index = media_type == OCI_INDEX || media_type == DOCKER_LIST;
        if !is_known(&media_type) || says_index != is_index {
            fault!(Unsupported, "manifest of media type \"{}\" is not an image", media_type.escape_default());
        }
        if let (Some(written), Some(declared)) = (&written, declared)
            && is_known(declared)
            && written != declared
        {
            fault!(Unsupported, "manifest says it is {written} but was sent as {declared}");
        }
        let kind = if is_index {
            Kind::Index(serde_json::from_slice(&bytes).context("parse image index")?)
        } else {
            let manifest: Manifest = serde_json::from_slice(&bytes).context("parse image manifest")?;
            if manifest.layers.len() > MAX_LAYERS {
                fault!(Unsupported, "image has {} layers, more than {MAX_LAYERS}", manifest.layers.len());
            }
            Kind::Manifest(manifest)
        };
        Ok(Self { digest: Digest::of(&bytes), bytes, media_type, kind })
    }

    /// The descriptor that points to it.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.bytes.len() as u64)
    }
}

fn is_known(media_type: &str) -> bool {
    [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(&media_type)
}

/// Whether a config of this media type is an image's, not some artifact's.
#[must_use]
pub fn is_image_config(media_type: &str) -> bool {
    matches!(media_type, "" | OCI_CONFIG | "application/vnd.docker.container.image.v1+json")
}

/// How a layer's bytes are packed, told by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A plain tar.
    Plain,
    /// gzip, possibly of several members.
    Gzip,
    /// zstd, possibly of several frames.
    Zstd,
}

/// The packing that a layer's media type tells; `None` where it is not a layer of files.
#[must_use]
pub fn packing(media_type: &str) -> Option<Packing> {
    match media_type {
        OCI_LAYER
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar" => Some(Packing::Plain),
        OCI_LAYER_GZIP
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => Some(Packing::Gzip),
        OCI_LAYER_ZSTD
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Some(Packing::Zstd),
        _ => None,
    }
}

/// A layer's media type in a manifest of OCI's: its own for docker's, which some tools (umoci) refuse there.
#[must_use]
pub fn in_oci(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => OCI_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => OCI_LAYER_GZIP,
        "application/vnd.docker.image.rootfs.diff.tar.zstd" => OCI_LAYER_ZSTD,
        other => other,
    }
}

/// Go writes empty lists and maps as `null`.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_or_foreign_documents_are_refused() {
        let digest = Digest::of(b"");
        let config = format!(r#"{{"digest":"{digest}","size":0}}"#);
        let both = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#);
        let wrong =
            format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","config":{config},"layers":[]}}"#);
        let alien = format!(r#"{{"schemaVersion":2,"mediaType":"text/html","config":{config}}}"#);
        for bad in [&both, &wrong, &alien, r#"{"schemaVersion":1}"#, "", "[]", "{}"] {
            assert!(Document::parse(bad.as_bytes().to_vec(), None).is_err(), "{bad}");
        }
        let good = format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#);
        let parsed = Document::parse(good.clone().into_bytes(), Some(DOCKER_MANIFEST)).unwrap();
        assert_eq!(parsed.media_type, DOCKER_MANIFEST);
        assert!(Document::parse(good.into_bytes(), Some("text/plain")).unwrap().media_type == OCI_MANIFEST);
    }
}
