//! Writing image archives: an OCI layout with docker's `manifest.json` beside it in one tar, as `docker save` has written
//! it since 25, so that docker, podman, skopeo and every OCI tool read the same file.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::reference::Reference;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Document, Index, Kind, OCI_INDEX};
use crate::store::index::{CONTAINERD_NAME, REF_NAME};

/// What to write.
pub struct Item {
    /// The manifest or index.
    pub document: Document,
    /// Its names; empty for none.
    pub names: Vec<Reference>,
    /// The first of them as the user wrote it, by which skopeo and its like look for it in an OCI archive.
    pub written: Option<String>,
}

/// Writes an archive of `items`, whose blobs are in the store and held by a lease. `docker` adds docker's files.
///
/// # Errors
/// A blob is missing; the output fails.
pub fn write(store: &Store, items: &[Item], docker: bool, out: &mut dyn Write) -> Result<()> {
    let mut writer = Writer { store, tar: tar::Builder::new(out), seen: HashSet::new() };
    let mut index = Index { media_type: OCI_INDEX.into(), ..Index::default() };
    let mut manifests: Vec<Value> = Vec::new();
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for item in items {
        let images = writer.document(&item.document)?;
        let mut entry = item.document.descriptor();
        let mut written = item.written.clone();
        for name in item.names.iter().map(Some).chain(item.names.is_empty().then_some(None)) {
            entry.annotations.clear();
            if let Some(name) = name {
                entry.annotations.insert(CONTAINERD_NAME.into(), name.to_string());
                let shown = written.take().unwrap_or_else(|| name.to_string());
                entry.annotations.insert(REF_NAME.into(), shown);
            }
            index.manifests.push(entry.clone());
        }
        let tags: Vec<String> = item.names.iter().map(Reference::familiar).collect();
        if let Some((config, layers)) = images {
            manifests.push(json!({
                "Config": path(&config),
                "RepoTags": tags,
                "Layers": layers.iter().map(|layer| path(&layer.digest)).collect::<Vec<_>>(),
            }));
            for name in &item.names {
                if let (Some(tag), Some(top)) = (name.tag(), layers.last()) {
                    let tags = repositories.entry(name.familiar_name()).or_default();
                    tags.insert(tag.into(), top.digest.hex().into());
                }
            }
        }
    }
    writer.bytes("index.json", &serde_json::to_vec(&index).context("encode index.json")?)?;
    if docker {
        writer.bytes("manifest.json", &serde_json::to_vec(&manifests).context("encode manifest.json")?)?;
        writer.bytes("repositories", &serde_json::to_vec(&repositories).context("encode repositories")?)?;
    }
    writer.bytes("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    writer.tar.into_inner().and_then(|out| out.flush()).context("write archive")
}

struct Writer<'a> {
    store: &'a Store,
    tar: tar::Builder<&'a mut dyn Write>,
    seen: HashSet<Digest>,
}

impl Writer<'_> {
    /// Writes a manifest with its blobs, or an index with all its images. Returns config and layers of a manifest.
    fn document(&mut self, document: &Document) -> Result<Option<(Digest, Vec<Descriptor>)>> {
        let images = match &document.kind {
            Kind::Manifest(manifest) => {
                for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                    self.blob(&blob.digest)?;
                }
                Some((manifest.config.digest.clone(), manifest.layers.clone()))
            }
            Kind::Index(index) => {
                for child in &index.manifests {
                    let child = self.store.document(child)?;
                    self.document(&child)?;
                }
                None
            }
        };
        self.blob(&document.digest)?;
        Ok(images)
    }

    fn blob(&mut self, digest: &Digest) -> Result<()> {
        if !self.seen.insert(digest.clone()) {
            return Ok(());
        }
        let mut file = self.store.open_blob(digest)?;
        let size = file.metadata().with_context(|| format!("look at blob {digest}"))?.len();
        self.entry(&path(digest), size, &mut file)
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.entry(name, bytes.len() as u64, &mut &*bytes)
    }

    fn entry(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        // No time, no owner: the same images give the same archive.
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        self.tar
            .append_data(&mut header, name, content)
            .with_context(|| format!("write {name} to the archive"))
    }
}

fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Writes an archive to the side and renames it, unless `path` is a device or a pipe.
///
/// # Errors
/// What `write_to` says; no space.
pub fn to_file(path: &Path, write_to: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let special = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let mut side = path.as_os_str().to_owned();
    side.push(format!(".{}.tmp", std::process::id()));
    let side = if special { path.to_path_buf() } else { PathBuf::from(side) };
    if !special {
        sweep_beside(path);
    }
    let made = || format!("write {}", path.display());
    let written = (|| {
        let file = if special { File::options().write(true).open(&side) } else { File::create(&side) };
        let mut out = BufWriter::with_capacity(256 << 10, file.with_context(made)?);
        write_to(&mut out).with_context(made)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(made)?;
        if special {
            return Ok(());
        }
        file.sync_data().with_context(made)?;
        fs::rename(&side, path).with_context(made)
    })();
    if written.is_err() && !special {
        let _ = fs::remove_file(&side);
    }
    written
}

/// Removes what killed commands left of the archive `path`: its name with `.PID.tmp` of a process that is no more.
fn sweep_beside(path: &Path) {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let own = entry.file_name();
        let rest = own.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let pid =
            rest.and_then(|rest| std::str::from_utf8(rest.strip_prefix(b".")?.strip_suffix(b".tmp")?).ok());
        let Some(pid) = pid.and_then(|text| text.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            // Left for the next time where it cannot be removed.
            let _ = fs::remove_file(entry.path());
        }
    }
}
