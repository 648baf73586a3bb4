//! Reading image archives (docker-archive, oci-archive, and docker's mixture of both) into the store in one pass.
//!
//! Every file of the archive becomes a blob while it streams by, hashed on the way, so nothing is read twice and a pipe
//! is as good as a file. What no manifest names afterwards is held by nothing but the lease.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use serde::Deserialize;

use crate::layer::stream::unpack;
use crate::reference::Reference;
use crate::store::Store;
use crate::store::blob::copy;
use crate::store::config::ImageConfig;
use crate::store::digest::Digest;
use crate::store::document::{
    Descriptor, Document, Index, Kind, MAX_DOCUMENT, Manifest, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD, OCI_MANIFEST, Platform,
};
use crate::store::index::{CONTAINERD_NAME, REF_NAME};
use crate::store::lease::Lease;
use crate::store::platform;

/// An image found in an archive; its blobs are in the store.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its manifest, or an index whose images are all there.
    pub document: Document,
    /// The names that the archive gives it.
    pub names: Vec<Reference>,
    /// What `index.json` calls it, word for word: any text, by which it can be picked.
    pub marks: Vec<String>,
}

/// More files than any image archive has.
const MAX_FILES: usize = 20_000;

/// Opens an archive, decompressed; `-` is stdin.
///
/// # Errors
/// It cannot be opened; its compression is not supported.
pub fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    let file: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?)
    };
    unpack(file).with_context(|| format!("read {}", path.display()))
}

/// Reads an archive and returns its images.
///
/// # Errors
/// It is no image archive; it is damaged; something that its manifests name is missing.
pub fn ingest(store: &Store, lease: &Lease, reader: &mut dyn Read) -> Result<Vec<Found>> {
    let contents = Contents::read(store, lease, reader)?;
    let mut found = match contents.json::<Index>("index.json")? {
        Some(index) if contents.files.contains_key("oci-layout") => contents.of_index(&index)?,
        _ => Vec::new(),
    };
    match contents.json::<Vec<Item>>("manifest.json")? {
        Some(items) => contents.add_items(lease, items, &mut found)?,
        None if found.is_empty() => {
            fault!(
                Unsupported,
                "no manifest.json or index.json in it: not an image archive (a root file system is for `import`)"
            )
        }
        None => {}
    }
    Ok(found)
}

/// One image of docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

struct Contents<'s> {
    store: &'s Store,
    /// By path in the archive.
    files: HashMap<String, Digest>,
    /// Symbolic links, as docker before 25 wrote them for equal layers.
    links: HashMap<String, String>,
}

impl<'s> Contents<'s> {
    fn read(store: &'s Store, lease: &Lease, reader: &mut dyn Read) -> Result<Self> {
        let mut contents = Self { store, files: HashMap::new(), links: HashMap::new() };
        let mut archive = tar::Archive::new(reader);
        let damaged = "damaged or truncated archive";
        for entry in archive.entries().context(damaged)? {
            let mut entry = entry.context(damaged)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(path) = normal("", &path) else { continue };
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                let target =
                    entry.link_name_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                let base =
                    if kind.is_symlink() { path.rsplit_once('/').map_or("", |(dir, _)| dir) } else { "" };
                if let Some(target) = target.and_then(|target| normal(base, &target)) {
                    contents.links.insert(path, target);
                }
                continue;
            }
            if !kind.is_file() && !kind.is_contiguous() {
                continue;
            }
            if contents.files.len() >= MAX_FILES {
                fault!(Unsupported, "more than {MAX_FILES} files in it: not an image archive");
            }
            let size = entry.header().entry_size().context(damaged)?;
            let digest = contents.take(lease, &path, size, &mut entry)?;
            contents.files.insert(path, digest);
        }
        Ok(contents)
    }

    fn take(&self, lease: &Lease, path: &str, size: u64, entry: &mut dyn Read) -> Result<Digest> {
        // A blob of the layout says its digest by its name, so one that is here need not be written again.
        let named =
            path.strip_prefix("blobs/").and_then(|rest| rest.replacen('/', ":", 1).parse::<Digest>().ok());
        if let Some(digest) = named {
            lease.hold([&digest])?;
            self.store.put(lease, &digest, None, entry)?;
            return Ok(digest);
        }
        let mut writer = self.store.writer()?;
        let count = copy(entry, &mut writer).with_context(|| format!("read {path} of the archive"))?;
        if count < size {
            anyhow::bail!("damaged or truncated archive: {path} ends after {count} bytes");
        }
        Ok(writer.commit(lease)?.0)
    }

    /// The blob that stands for a path, through links.
    fn find(&self, path: &str) -> Result<&Digest> {
        let mut path = normal("", path).unwrap_or_default();
        for _ in 0..16 {
            if let Some(digest) = self.files.get(&path) {
                return Ok(digest);
            }
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => break,
            }
        }
        fault!(NotFound, "the archive names {} but does not hold it", path.escape_default())
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<Option<T>> {
        let Some(digest) = self.files.get(path) else { return Ok(None) };
        let bytes = self.store.read_blob(digest, MAX_DOCUMENT)?;
        serde_json::from_slice(&bytes).map(Some).with_context(|| format!("parse {path} of the archive"))
    }

    /// The images of `index.json`.
    fn of_index(&self, index: &Index) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = Vec::new();
        for entry in &index.manifests {
            let annotation =
                entry.annotations.get(CONTAINERD_NAME).or_else(|| entry.annotations.get(REF_NAME));
            // A bare word is a tag of nothing, or some other tool's own mark.
            let name = annotation
                .filter(|text| text.contains([':', '/']) || entry.annotations.contains_key(CONTAINERD_NAME));
            let name = name.and_then(|text| text.parse::<Reference>().ok()).map(Reference::or_latest);
            let Some(document) = self.complete(entry, 0)? else { continue };
            let mark = entry.annotations.get(REF_NAME).cloned();
            match found.iter_mut().find(|known| known.document.digest == document.digest) {
                Some(known) => {
                    known.names.extend(name);
                    known.marks.extend(mark);
                }
                None => {
                    let (names, marks) = (name.into_iter().collect(), mark.into_iter().collect());
                    found.push(Found { document, names, marks });
                }
            }
        }
        Ok(found)
    }

    /// The manifest or index of an entry if all it names is there; of an index with only some of its images, as
    /// `docker save` writes it, the best one for this machine.
    fn complete(&self, entry: &Descriptor, depth: u32) -> Result<Option<Document>> {
        let document = self.store.document(entry)?;
        match &document.kind {
            Kind::Manifest(manifest) => {
                self.check(manifest)?;
                Ok(Some(document))
            }
            Kind::Index(_) if depth >= 2 => {
                fault!(Unsupported, "indexes nested too deep at {}", entry.digest)
            }
            Kind::Index(index) => {
                let mut present = Index { manifests: Vec::new(), ..index.clone() };
                for child in &index.manifests {
                    if self.store.has(&child.digest)
                        && self.complete(child, depth + 1).is_ok_and(|found| found.is_some())
                    {
                        present.manifests.push(child.clone());
                    }
                }
                if present.manifests.len() == index.manifests.len() {
                    return Ok(Some(document));
                }
                let best = platform::select(&present, &Platform::host()).or(present.manifests.first());
                best.map_or(Ok(None), |child| self.complete(child, depth + 1))
            }
        }
    }

    fn check(&self, manifest: &Manifest) -> Result<()> {
        for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
            match self.store.size_of(&blob.digest) {
                Some(size) if size == blob.size => {}
                Some(size) => {
                    anyhow::bail!("blob {} has {size} bytes, its manifest says {}", blob.digest, blob.size)
                }
                None => fault!(NotFound, "the archive names blob {} but does not hold it", blob.digest),
            }
        }
        Ok(())
    }

    /// The images of `manifest.json`: new ones, or names for those that `index.json` told of.
    fn add_items(&self, lease: &Lease, items: Vec<Item>, found: &mut Vec<Found>) -> Result<()> {
        for item in items {
            let config = self.find(&item.config)?;
            let names: Vec<Reference> = item
                .repo_tags
                .unwrap_or_default()
                .iter()
                .map(|text| Ok(text.parse::<Reference>()?.or_latest()))
                .collect::<Result<_>>()?;
            let same = |one: &&mut Found| matches!(&one.document.kind, Kind::Manifest(manifest) if manifest.config.digest == *config);
            if let Some(known) = found.iter_mut().find(same) {
                for name in names {
                    if !known.names.contains(&name) {
                        known.names.push(name);
                    }
                }
                continue;
            }
            let document = self.manifest(lease, config, &item.layers.unwrap_or_default())?;
            found.push(Found { document, names, marks: Vec::new() });
        }
        Ok(())
    }

    /// Writes the manifest that a docker-archive lacks.
    fn manifest(&self, lease: &Lease, config: &Digest, layers: &[String]) -> Result<Document> {
        let bytes = self.store.read_blob(config, MAX_DOCUMENT)?;
        let diff_ids = ImageConfig::parse(&bytes)?.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            fault!(
                Unsupported,
                "image {} has {} layers but {} diff ids",
                config.short(),
                layers.len(),
                diff_ids.len()
            );
        }
        let mut descriptors = Vec::new();
        for (path, diff_id) in layers.iter().zip(&diff_ids) {
            let digest = self.find(path)?;
            let media_type = self.media_type(digest)?;
            if media_type == OCI_LAYER && digest != diff_id {
                anyhow::bail!("layer {path} has the wrong content: its digest is {digest}, not {diff_id}");
            }
            let size = self.store.size_of(digest).unwrap_or_default();
            descriptors.push(Descriptor::new(media_type, digest.clone(), size));
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.into(),
            artifact_type: None,
            config: Descriptor::new(OCI_CONFIG, config.clone(), bytes.len() as u64),
            layers: descriptors,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&manifest).context("encode manifest")?;
        self.store.put_bytes(lease, &bytes)?;
        Document::parse(bytes, None)
    }

    fn media_type(&self, digest: &Digest) -> Result<&'static str> {
        let mut head = [0; 4];
        let mut file = self.store.open_blob(digest)?;
        let count = file.read(&mut head).with_context(|| format!("read blob {digest}"))?;
        Ok(match &head[..count] {
            [0x1f, 0x8b, ..] => OCI_LAYER_GZIP,
            [0x28, 0xb5, 0x2f, 0xfd] => OCI_LAYER_ZSTD,
            _ => OCI_LAYER,
        })
    }
}

/// `path` below `base` without dots; `None` where it leaves the archive.
fn normal(base: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            other => parts.push(other),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn paths_stay_in_the_archive() {
        assert_eq!(normal("", "./a//b/").unwrap(), "a/b");
        assert_eq!(normal("x", "../y/layer.tar").unwrap(), "y/layer.tar");
        assert_eq!(normal("", "../x"), None);
        assert_eq!(normal("a", "../../x"), None);
    }
}
