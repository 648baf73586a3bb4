//! `index.json`: which names the store holds and what they point to.
//!
//! One entry per name, so that any OCI tool can pick an image by it; an image that lost its last name to another one
//! keeps one entry without a name (docker's `<none>`).

use anyhow::{Context as _, Result};
use contracts::atomic;

use super::Store;
use super::digest::Digest;
use super::document::{Descriptor, Index};
use crate::reference::Reference;

/// The annotation by which OCI tools pick an image (`skopeo copy oci:DIR:NAME`).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The same for containerd and docker.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The `name@digest` forms under which registries know the entry, separated by spaces.
const REPO_DIGESTS: &str = "bulkhead.repo-digests";

/// The name of an entry, if it has one.
#[must_use]
pub fn name_of(entry: &Descriptor) -> Option<Reference> {
    entry.annotations.get(REF_NAME)?.parse().ok()
}

/// The `name@digest` forms of an entry.
#[must_use]
pub fn repo_digests(entry: &Descriptor) -> Vec<Reference> {
    let text = entry.annotations.get(REPO_DIGESTS).map(String::as_str).unwrap_or_default();
    text.split(' ').filter_map(|part| part.parse().ok()).collect()
}

/// Notes that a registry knows the entry as `known` (a name with a digest).
pub fn add_repo_digest(entry: &mut Descriptor, known: &Reference) {
    let mut all = repo_digests(entry);
    if !all.contains(known) {
        all.push(known.clone());
    }
    let text: Vec<String> = all.iter().map(ToString::to_string).collect();
    entry.annotations.insert(REPO_DIGESTS.into(), text.join(" "));
}

/// Forgets that a registry knows the entry as `known`; says whether it was noted.
pub fn remove_repo_digest(entry: &mut Descriptor, known: &Reference) -> bool {
    let mut all = repo_digests(entry);
    let before = all.len();
    all.retain(|own| own.repository() != known.repository() || own.digest() != known.digest());
    let text: Vec<String> = all.iter().map(ToString::to_string).collect();
    if text.is_empty() {
        entry.annotations.remove(REPO_DIGESTS);
    } else {
        entry.annotations.insert(REPO_DIGESTS.into(), text.join(" "));
    }
    all.len() < before
}

impl Store {
    /// Reads `index.json` as it stands.
    ///
    /// # Errors
    /// Unreadable or not an index.
    pub fn index(&self) -> Result<Index> {
        Ok(atomic::read_json(&self.root.join("index.json"))?.unwrap_or_default())
    }

    /// Changes `index.json` under its lock, in one step. Nothing is written where `change` fails or changes nothing.
    ///
    /// # Errors
    /// Those of `change`, or the file cannot be read or written.
    pub fn update<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let _lock = self.lock()?;
        self.update_locked(change)
    }

    /// [`Store::update`] for a caller that holds the lock.
    pub(super) fn update_locked<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let mut index = self.index()?;
        let before = serde_json::to_vec(&index).context("encode index.json")?;
        let out = change(&mut index)?;
        if serde_json::to_vec(&index).context("encode index.json")? != before {
            atomic::write_json(&self.root.join("index.json"), &index, 0o644)?;
        }
        Ok(out)
    }
}

impl Index {
    /// Points `name` to `target`; whatever had the name before loses it, and keeps a nameless entry if it was its last.
    pub fn set_name(&mut self, name: &Reference, target: &Descriptor) {
        let text = name.to_string();
        let known =
            self.manifests.iter().filter(|entry| entry.digest == target.digest).flat_map(repo_digests);
        let known: Vec<Reference> = known.collect();
        self.drop_name(&text, true);
        self.manifests
            .retain(|entry| entry.digest != target.digest || entry.annotations.contains_key(REF_NAME));
        let mut entry = target.clone();
        entry.annotations.insert(REF_NAME.into(), text.clone());
        entry.annotations.insert(CONTAINERD_NAME.into(), text);
        for digest in &known {
            add_repo_digest(&mut entry, digest);
        }
        self.manifests.push(entry);
    }

    /// Adds `target` without a name, unless an entry points to it already.
    pub fn add_nameless(&mut self, target: &Descriptor) {
        if !self.holds(&target.digest) {
            self.manifests.push(target.clone());
        }
    }

    /// Takes `name` away; says whether it was there. With `keep`, an image that loses its last name stays, nameless.
    pub fn drop_name(&mut self, name: &str, keep: bool) -> bool {
        let is_it = |entry: &Descriptor| entry.annotations.get(REF_NAME).is_some_and(|text| text == name);
        let Some(at) = self.manifests.iter().position(is_it) else { return false };
        let mut entry = self.manifests.remove(at);
        if keep && !self.holds(&entry.digest) {
            entry.annotations.remove(REF_NAME);
            entry.annotations.remove(CONTAINERD_NAME);
            self.manifests.push(entry);
        }
        true
    }

    /// Whether any entry points to `digest`.
    #[must_use]
    pub fn holds(&self, digest: &Digest) -> bool {
        self.manifests.iter().any(|entry| entry.digest == *digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::document::OCI_MANIFEST;

    fn target(content: &[u8]) -> Descriptor {
        Descriptor::new(OCI_MANIFEST, Digest::of(content), 1)
    }

    #[test]
    fn a_name_moves_and_the_old_image_stays_nameless() {
        let (name, other): (Reference, Reference) = ("a:1".parse().unwrap(), "b:1".parse().unwrap());
        let mut index = Index::default();
        index.set_name(&name, &target(b"1"));
        index.set_name(&name, &target(b"2"));
        assert_eq!(index.manifests.len(), 2);
        assert_eq!(name_of(&index.manifests[0]), None);
        assert_eq!(name_of(&index.manifests[1]), Some(name.clone()));
        index.set_name(&other, &target(b"1"));
        assert_eq!(index.manifests.len(), 2, "the nameless entry got the name");
        index.set_name(&name, &target(b"1"));
        assert_eq!(index.manifests.iter().filter(|entry| entry.digest == target(b"1").digest).count(), 2);
        assert!(index.drop_name(&name.to_string(), true) && !index.drop_name(&name.to_string(), true));
        assert_eq!(index.manifests.len(), 2);
        assert!(index.drop_name(&other.to_string(), false));
        assert_eq!(index.manifests.len(), 1);
    }

    #[test]
    fn repo_digests_follow_the_image_to_new_names() {
        let mut index = Index::default();
        let name: Reference = "r.io/a:1".parse().unwrap();
        index.set_name(&name, &target(b"1"));
        let known = name.with_digest(Digest::of(b"index"));
        add_repo_digest(&mut index.manifests[0], &known);
        add_repo_digest(&mut index.manifests[0], &known);
        index.set_name(&"b:2".parse().unwrap(), &target(b"1"));
        assert_eq!(repo_digests(&index.manifests[1]), [known]);
    }
}
