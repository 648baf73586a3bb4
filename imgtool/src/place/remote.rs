//! Registries as places.

use std::io::Read;
use std::sync::OnceLock;

use anyhow::Result;
use contracts::fault;
use contracts::fault::Kind as FaultKind;

use super::{Sink, Source};
use crate::reference::Reference;
use crate::registry::Client;
use crate::registry::repository::Repository;
use crate::registry::upload::Outcome;
use crate::store::document::{Descriptor, Document};
use crate::transfer::progress::Bar;

/// An image in a registry, by tag or digest; mirrors are asked first.
pub struct RemoteSource<'c> {
    name: Reference,
    repositories: Vec<Repository<'c>>,
    /// The repository that had the manifest.
    chosen: OnceLock<usize>,
}

impl<'c> RemoteSource<'c> {
    /// The image `name`.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn new(client: &'c Client, name: &Reference) -> Result<Self> {
        let repositories = client.repositories(name, false)?;
        Ok(Self { name: name.clone(), repositories, chosen: OnceLock::new() })
    }

    fn repository(&self) -> &Repository<'c> {
        &self.repositories[self.chosen.get().copied().unwrap_or(self.repositories.len() - 1)]
    }
}

impl Source for RemoteSource<'_> {
    fn top(&self) -> Result<Document> {
        let mut first = None;
        for (at, repository) in self.repositories.iter().enumerate() {
            match repository.manifest(&self.name.manifest_name()) {
                Ok(document) => {
                    let _ = self.chosen.set(at);
                    return Ok(document);
                }
                // The registry itself, the last, has the last word; a mirror's failure is only told if that fails too.
                Err(err) if at + 1 == self.repositories.len() => {
                    return Err(first.unwrap_or(err));
                }
                Err(err) if FaultKind::of(&err) == Some(FaultKind::NotFound) => {}
                Err(err) => first = first.or(Some(err)),
            }
        }
        fault!(NotFound, "no registry for {}", self.name.familiar())
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        self.repository().manifest(&descriptor.digest.to_string())
    }

    fn blob<'a>(&'a self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        Ok(Box::new(self.repository().blob(descriptor, offset)?))
    }

    fn siblings(&self, host: &str) -> Vec<String> {
        let own = self.repository();
        if own.host() == host { vec![own.path().to_owned()] } else { Vec::new() }
    }
}

/// A repository to push to, under a tag or by digest.
pub struct RemoteSink<'c> {
    name: Reference,
    repository: Repository<'c>,
}

impl<'c> RemoteSink<'c> {
    /// The image `name`.
    ///
    /// # Errors
    /// The registry is blocked.
    pub fn new(client: &'c Client, name: &Reference) -> Result<Self> {
        Ok(Self { name: name.clone(), repository: client.repository(name, true)? })
    }
}

impl Sink for RemoteSink<'_> {
    fn put(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar) -> Result<()> {
        let siblings = source.siblings(self.repository.host());
        let outcome = self.repository.upload(descriptor, &siblings, &|offset| {
            bar.set(offset);
            Ok(Box::new(bar.reading(source.blob(descriptor, offset)?)))
        })?;
        bar.done(match outcome {
            Outcome::Present => "Layer already exists",
            Outcome::Mounted => "Mounted",
            Outcome::Sent => "Pushed",
        });
        Ok(())
    }

    fn put_document(&self, document: &Document, top: bool) -> Result<()> {
        let by_tag = self.name.tag().filter(|_| top).map(str::to_owned);
        self.repository.put_manifest(&by_tag.unwrap_or_else(|| document.digest.to_string()), document)
    }
}
