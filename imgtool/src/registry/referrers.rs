//! What refers to a manifest: signatures, bills of materials, attestations (distribution spec, "referrers").

use anyhow::{Context as _, Result};
use contracts::fault;
use contracts::fault::Kind as FaultKind;
use ureq::http::Method;

use super::answer::read;
use super::http::Request;
use super::repository::Repository;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Document, Index, Kind, MAX_DOCUMENT, OCI_INDEX};

impl Repository<'_> {
    /// What refers to a manifest, by the API or, where the registry has none, by the tag that stands for it.
    ///
    /// # Errors
    /// `Remote`.
    pub fn referrers(&self, digest: &Digest) -> Result<Index> {
        let what = format!("referrers of {}@{digest}", self.title());
        let request =
            Request::new(Method::GET, self.url(&format!("referrers/{digest}"))).header("accept", OCI_INDEX);
        let response = self.send(request)?;
        if response.status() == 200 {
            let bytes = read(response, MAX_DOCUMENT)?;
            return serde_json::from_slice(&bytes).with_context(|| what);
        }
        self.listed_referrers(digest)
    }

    /// The list that clients keep under a tag made of the subject's digest.
    fn listed_referrers(&self, digest: &Digest) -> Result<Index> {
        match self.manifest(&tag_of(digest)) {
            Ok(Document { kind: Kind::Index(index), .. }) => Ok(index),
            Ok(document) => fault!(
                Remote,
                "referrers of {}@{digest}: the tag that should list them is no index but {}",
                self.title(),
                document.media_type
            ),
            Err(err) if FaultKind::of(&err) == Some(FaultKind::NotFound) => Ok(Index::default()),
            Err(err) => Err(err),
        }
    }

    /// Adds `document` to the list of what refers to `subject`. (The protocol has no way to do it atomically: of two
    /// clients at the same moment one may be lost, whatever their make.)
    pub(super) fn list_referrer(&self, subject: &Descriptor, document: &Document) -> Result<()> {
        let mut index = self.listed_referrers(&subject.digest)?;
        if index.manifests.iter().any(|entry| entry.digest == document.digest) {
            return Ok(());
        }
        let mut entry = document.descriptor();
        if let Kind::Manifest(manifest) = &document.kind {
            let kind = manifest.artifact_type.clone();
            entry.artifact_type = Some(kind.unwrap_or_else(|| manifest.config.media_type.clone()));
            entry.annotations.clone_from(&manifest.annotations);
        }
        index.manifests.push(entry);
        let bytes = serde_json::to_vec(&index).context("encode the list of referrers")?;
        self.put_manifest(&tag_of(&subject.digest), &Document::parse(bytes, Some(OCI_INDEX))?)
    }
}

fn tag_of(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}
