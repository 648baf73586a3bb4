//! Additional stores: their images, blobs and extracted layers are used where they lie, never written and never
//! collected. What has a name here hides what has the same name there.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use contracts::paths::Paths;
use contracts::{atomic, fault, report};

use super::Store;
use super::digest::Digest;
use super::document::{Descriptor, Index};
use super::index::{REF_NAME, name_of};
use crate::reference::Reference;

/// The image layouts of the additional stores. One that is away, as a share that is not mounted, is told of and left out:
/// what is here works without it.
///
/// # Errors
/// One is of another version, or cannot be read.
pub fn layouts(paths: &Paths) -> Result<Vec<PathBuf>> {
    let stores = paths.additional_stores().context("find the additional stores")?;
    let layout = |store: PathBuf| {
        let root = store.join("images");
        match fs::read(root.join("oci-layout")) {
            Ok(bytes) => super::check_layout(&root, &bytes)?,
            Err(err) if err.kind() == ErrorKind::NotFound => {
                let shown = store.display();
                report::say(format_args!(
                    "WARNING: additional store {shown}: no images there; going on without it"
                ));
                return Ok(None);
            }
            Err(err) => {
                return Err(err).with_context(|| format!("open additional store {}", store.display()));
            }
        }
        Ok(Some(root))
    };
    stores.into_iter().filter_map(|store| layout(store).transpose()).collect()
}

impl Store {
    /// The entries of `index.json` and of those of the additional stores.
    ///
    /// # Errors
    /// One is unreadable or not an index.
    pub fn entries(&self) -> Result<Vec<Descriptor>> {
        let mut entries = self.index()?.manifests;
        for other in &self.others {
            let index: Index = atomic::read_json(&other.join("index.json"))?.unwrap_or_default();
            for entry in index.manifests {
                let known = match entry.annotations.get(REF_NAME) {
                    Some(name) => entries.iter().any(|own| own.annotations.get(REF_NAME) == Some(name)),
                    None => entries.iter().any(|own| own.digest == entry.digest),
                };
                if !known {
                    entries.push(entry);
                }
            }
        }
        Ok(entries)
    }

    /// Refuses what only an additional store has under that name, or at all where there is no name.
    ///
    /// # Errors
    /// `Denied`; `index.json` is unreadable.
    pub fn refuse_additional(&self, name: Option<&Reference>, target: &Descriptor) -> Result<()> {
        if self.others.is_empty() {
            return Ok(());
        }
        let own = self.index()?.manifests;
        let tag = name.filter(|name| name.digest().is_none());
        if !own.iter().any(|entry| match tag {
            Some(tag) => name_of(entry).as_ref() == Some(tag),
            None => entry.digest == target.digest,
        }) {
            let shown = name.map_or_else(|| target.digest.to_string(), Reference::familiar);
            fault!(Denied, "image {shown} is in an additional store, which is read-only");
        }
        Ok(())
    }

    /// Where a blob is: here, or in an additional store.
    pub(super) fn locate(&self, digest: &Digest) -> PathBuf {
        let own = self.blob_path(digest);
        if self.others.is_empty() || own.exists() {
            return own;
        }
        let mut there = self.others.iter().map(|root| super::blob::path_in(root, digest));
        there.find(|path| path.exists()).unwrap_or(own)
    }
}
