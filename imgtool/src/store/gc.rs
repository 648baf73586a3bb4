//! Garbage: blobs, extracted layers and half-received files that nothing holds any more.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::lock::Lock;
use serde::Deserialize;

use super::Store;
use super::config::ImageConfig;
use super::digest::{Algorithm, Digest};
use super::document::{Descriptor, Document, Kind, MAX_DOCUMENT};
use super::lease::{held, remove_if_dead};

/// What a collection removed.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: Vec<Digest>,
    /// Extracted layers removed, by diff id.
    pub layers: Vec<Digest>,
    /// Bytes freed in blobs and half-received files.
    pub bytes: u64,
}

/// A half-received blob is kept this long for a command that goes on with it.
const PARTIAL_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

impl Store {
    /// Removes what nothing holds. `all_partials` also removes half-received blobs that are still young.
    ///
    /// Safe beside every other command: a running one's lease holds what it needs.
    ///
    /// # Errors
    /// The store cannot be read; what cannot be removed is left for the next time.
    pub fn collect(&self, all_partials: bool) -> Result<Collected> {
        let lock = self.lock()?;
        let mut collected = Collected::default();
        let mut marked = Marked { blobs: held(&self.root)?, diff_ids: HashSet::new() };
        // A lease names blobs one by one, but the layers extracted from a config are only named inside it.
        for digest in marked.blobs.clone() {
            self.mark_config(&digest, &mut marked);
        }
        // Those of additional stores too: layers of theirs may be extracted here.
        for entry in &self.entries()? {
            self.mark(entry, &mut marked, 0);
        }
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            self.sweep_blobs(algorithm, &marked.blobs, &mut collected)?;
        }
        self.sweep_partials(all_partials, &mut collected)?;
        drop(lock);
        let store = &self.paths.store;
        for dir in
            [self.root.clone(), self.root.join("keep"), store.join("bundles"), store.join("build/cache")]
        {
            atomic::sweep(&dir);
        }
        self.sweep_layers(marked.diff_ids, &mut collected)?;
        Ok(collected)
    }

    /// Notes that the image of this id was used just now: `prune` spares what is in use. The note is the time of the
    /// config's file, so it needs no lock and harms nobody.
    pub fn used(&self, id: &Digest) {
        if let Ok(file) = fs::File::open(self.blob_path(id)) {
            // Best effort: a store that cannot be written to is not pruned either.
            let _ = file.set_modified(std::time::SystemTime::now());
        }
    }

    /// When the image was used, or came, last.
    #[must_use]
    pub fn last_used(&self, id: &Digest) -> jiff::Timestamp {
        let time = fs::metadata(self.locate(id)).and_then(|meta| meta.modified()).ok();
        time.and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }

    /// The bytes of all blobs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn stored(&self) -> Result<u64> {
        let mut total = 0;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let dir = self.root.join("blobs").join(algorithm.name());
            for name in names_in(&dir)? {
                total += fs::metadata(dir.join(&name)).map_or(0, |meta| meta.len());
            }
        }
        Ok(total)
    }

    fn mark(&self, target: &Descriptor, marked: &mut Marked, depth: u32) {
        marked.blobs.insert(target.digest.clone());
        // A damaged manifest holds nothing; it stays itself, so that `inspect` can say what is wrong with it.
        let Ok(document) = self.document(target) else { return };
        match &document.kind {
            Kind::Manifest(manifest) => {
                marked.blobs.insert(manifest.config.digest.clone());
                marked.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
                self.mark_config(&manifest.config.digest, marked);
            }
            Kind::Index(index) if depth < 3 => {
                for child in &index.manifests {
                    self.mark(child, marked, depth + 1);
                }
            }
            Kind::Index(_) => {}
        }
    }

    fn mark_config(&self, digest: &Digest, marked: &mut Marked) {
        // Layers are large and configs small, so this reads nothing big.
        if self.size_of(digest).is_none_or(|size| size > MAX_DOCUMENT) {
            return;
        }
        let Ok(bytes) = self.read_blob(digest, MAX_DOCUMENT) else { return };
        if bytes.first() != Some(&b'{') {
            return;
        }
        if let Ok(config) = ImageConfig::parse(&bytes) {
            marked.diff_ids.extend(config.rootfs.diff_ids);
        }
        if let Ok(Document { kind: Kind::Manifest(manifest), .. }) = Document::parse(bytes, None) {
            marked.blobs.insert(manifest.config.digest.clone());
            marked.blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        }
    }

    fn sweep_blobs(
        &self,
        algorithm: Algorithm,
        marked: &HashSet<Digest>,
        collected: &mut Collected,
    ) -> Result<()> {
        let dir = self.root.join("blobs").join(algorithm.name());
        for name in names_in(&dir)? {
            let Ok(digest) = format!("{}:{name}", algorithm.name()).parse::<Digest>() else { continue };
            let path = dir.join(&name);
            let size = fs::metadata(&path).map_or(0, |meta| meta.len());
            if !marked.contains(&digest) && fs::remove_file(&path).is_ok() {
                collected.bytes += size;
                collected.blobs.push(digest);
            }
        }
        Ok(())
    }

    fn sweep_partials(&self, all: bool, collected: &mut Collected) -> Result<()> {
        let dir = self.root.join("partial");
        for name in names_in(&dir)? {
            let path = dir.join(&name);
            let Ok(meta) = fs::metadata(&path) else { continue };
            let age = meta.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            // `new-…` files cannot be gone on with: their digest is known to nobody.
            if (all || age > PARTIAL_AGE || name.starts_with("new-")) && remove_if_dead(&path)? {
                collected.bytes += meta.len();
            }
        }
        Ok(())
    }

    fn sweep_layers(&self, mut wanted: HashSet<Digest>, collected: &mut Collected) -> Result<()> {
        let layers = self.paths.layers();
        if !layers.exists() {
            return Ok(());
        }
        let doomed = {
            let _lock = Lock::exclusive(&layers.join("lock"))?;
            // Read under the lock: a bundle writes its record, and a build its lease, before they look for their layers
            // under it.
            wanted.extend(self.layers_of_bundles()?);
            wanted.extend(held(&self.root)?);
            let mut doomed = Vec::new();
            for name in names_in(&layers)? {
                if let Ok(diff_id) = format!("sha256:{name}").parse::<Digest>()
                    && !wanted.contains(&diff_id)
                {
                    // Renamed away first, so that nobody ever sees half a layer under its name.
                    let trash = layers.join(format!(".trash-{name}"));
                    if fs::rename(layers.join(&name), &trash).is_ok() {
                        collected.layers.push(diff_id);
                    }
                }
                if name.starts_with(".trash-") {
                    doomed.push(layers.join(&name));
                }
                if let Some(unfinished) = name.strip_suffix(".partial") {
                    let trash = layers.join(format!(".trash-{unfinished}"));
                    if discard_if_dead(&layers.join(&name), &trash) {
                        doomed.push(trash);
                    }
                }
            }
            doomed.extend(collected.layers.iter().map(|id| layers.join(format!(".trash-{}", id.hex()))));
            doomed
        };
        for path in doomed {
            // Another collector may be at the same directory; whatever stays is tried again next time.
            let _ = fs::remove_dir_all(path);
        }
        Ok(())
    }

    /// The diff ids that bundles hold (`STORE/bundles/*.json`, key `layers`).
    fn layers_of_bundles(&self) -> Result<Vec<Digest>> {
        let records = self.bundles()?;
        Ok(records.into_iter().flat_map(|(_, record)| record.layers).collect())
    }

    /// What every bundle holds, by the bundle's name.
    ///
    /// # Errors
    /// A record is unreadable: guessing could remove a layer that is in use.
    pub fn bundles(&self) -> Result<Vec<(String, Held)>> {
        let dir = self.paths.store.join("bundles");
        let mut out = Vec::new();
        for file in names_in(&dir)? {
            let Some(name) = file.strip_suffix(".json") else { continue };
            if let Some(record) = atomic::read_json::<Held>(&dir.join(&file))? {
                out.push((name.to_owned(), record));
            }
        }
        Ok(out)
    }
}

/// The part of a bundle's record (`STORE/bundles/<name>.json`) that the collector reads.
#[derive(Debug, Clone, Deserialize)]
pub struct Held {
    /// The layers that its rootfs is mounted from, by diff id.
    #[serde(default)]
    pub layers: Vec<Digest>,
    /// The id of the image it was made from.
    #[serde(default)]
    pub image_id: Option<Digest>,
}

/// Puts aside the directory of a layer that nobody extracts any more: whoever does holds it locked.
fn discard_if_dead(path: &Path, trash: &Path) -> bool {
    let Ok(dir) = fs::File::open(path) else { return false };
    // Renamed while it is ours: whoever waits for the lock then looks at the name again.
    dir.try_lock().is_ok() && fs::rename(path, trash).is_ok()
}

struct Marked {
    blobs: HashSet<Digest>,
    diff_ids: HashSet<Digest>,
}

/// The names in a directory; none where it does not exist.
fn names_in(dir: &Path) -> Result<Vec<String>> {
    let listed = || format!("list {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err).with_context(listed),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.with_context(listed)?.file_name().into_string());
    }
    Ok(names)
}
