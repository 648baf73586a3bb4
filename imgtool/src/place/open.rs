//! Opening places: what an image is read from and written to, whichever place a command was told.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::archive::{Item, to_file, write};
use super::dir::{DirSink, DirSource};
use super::engine::Engine;
use super::ingest::{Found, ingest, open};
use super::layout::{LayoutSink, LayoutSource};
use super::local::{LocalSink, LocalSource};
use super::location::Location;
use super::remote::{RemoteSink, RemoteSource};
use super::{Sink, Source};
use crate::reference::Reference;
use crate::registry::Client;
use crate::store::Store;
use crate::store::document::{Descriptor, Document, Platform};
use crate::store::lease::Lease;
use crate::transfer::progress::Bar;
use crate::transfer::{Options, transfer};

/// What all places may need: the store that archives pass through, registries, engines.
#[derive(Clone, Copy)]
pub struct Opener<'a> {
    /// Our store.
    pub store: &'a Store,
    /// Registries.
    pub client: &'a Client,
    /// Holds what passes through the store.
    pub lease: &'a Lease,
    /// Where docker's engine is, if not where `DOCKER_HOST` says.
    pub engine: Option<&'a str>,
    /// Further names for the image in an archive, an engine or the store.
    pub names: &'a [Reference],
}

/// A source, and the names that it gives its image.
pub struct Opened<'a> {
    /// The image.
    pub source: Box<dyn Source + 'a>,
    /// Its names there.
    pub names: Vec<Reference>,
}

impl<'a> Opener<'a> {
    /// Opens a place for reading.
    ///
    /// # Errors
    /// No such image; the place fails.
    pub fn source(&self, place: &Location) -> Result<Opened<'a>> {
        let (store, client) = (self.store, self.client);
        Ok(match place {
            Location::Registry(name) => {
                Opened { source: Box::new(RemoteSource::new(client, name)?), names: vec![name.clone()] }
            }
            Location::Store(name) => {
                let (name, target) = store.resolve(name)?;
                self.lease.hold_all(&target)?;
                let known = store.load(&target, None, &Platform::host()).map(|image| image.repo_digests);
                let source = LocalSource::new(store, target, known.unwrap_or_default());
                Opened { source: Box::new(source), names: name.into_iter().collect() }
            }
            Location::Layout(dir, name) => {
                let names = name.iter().filter_map(|name| name.parse::<Reference>().ok());
                Opened {
                    source: Box::new(LayoutSource::open(dir, name.as_deref())?),
                    names: names.map(Reference::or_latest).collect(),
                }
            }
            Location::Dir(dir) => Opened { source: Box::new(DirSource::open(dir)?), names: Vec::new() },
            Location::OciArchive(path, name) | Location::DockerArchive(path, name) => {
                let mut reader = open(path)?;
                let title = path.display().to_string();
                let found =
                    ingest(store, self.lease, &mut reader).with_context(|| format!("read {title}"))?;
                self.found(pick(found, &title, name.as_deref())?)
            }
            Location::Engine(name) => {
                let mut reader = Engine::new(self.engine)?.save(name)?;
                let title = format!("docker-daemon:{name}");
                let found =
                    ingest(store, self.lease, &mut reader).with_context(|| format!("read {title}"))?;
                let wanted = name.parse::<Reference>().ok().filter(|_| !name.starts_with("sha256:"));
                let several = found.len() > 1;
                self.found(pick(
                    found,
                    &title,
                    wanted.filter(|_| several).map(|name| name.to_string()).as_deref(),
                )?)
            }
        })
    }

    fn found(&self, found: Found) -> Opened<'a> {
        let source = LocalSource::new(self.store, found.document.descriptor(), Vec::new());
        Opened { source: Box::new(source), names: found.names }
    }

    /// Moves what `source` has to a place.
    ///
    /// # Errors
    /// Either fails.
    pub fn deliver(&self, source: &dyn Source, place: &Location, options: &Options) -> Result<Document> {
        let kept = matches!(place, Location::Store(_)) || place.through_store();
        if !(self.names.is_empty() || kept) {
            fault!(Usage, "further names are for archives, docker's engine and the store");
        }
        let with = |first: Option<Reference>| first.into_iter().chain(self.names.iter().cloned()).collect();
        let sink: Box<dyn Sink + '_> = match place {
            Location::Registry(name) => Box::new(RemoteSink::new(self.client, name)?),
            Location::Store(name) => {
                let name = name.parse::<Reference>()?.or_latest();
                Box::new(LocalSink::new(self.store, self.lease, with(Some(name)), None))
            }
            Location::Layout(dir, name) => Box::new(LayoutSink::open(dir, name.as_deref())?),
            Location::Dir(dir) => Box::new(DirSink::open(dir)?),
            Location::OciArchive(path, name) => {
                return self.archive(source, options, (path, name.as_deref(), false));
            }
            Location::DockerArchive(path, name) => {
                return self.archive(source, options, (path, name.as_deref(), true));
            }
            Location::Engine(name) => {
                let name = name.parse::<Reference>()?.or_latest();
                if name.tag().is_none() {
                    fault!(Usage, "docker-daemon:{}: an engine takes a name with a tag", name.familiar());
                }
                let engine = Engine::new(self.engine)?;
                let item = self.pass(source, options, with(Some(name)))?;
                engine.load(|out| write(self.store, std::slice::from_ref(&item), true, out))?;
                return Ok(item.document);
            }
        };
        Ok(transfer(source, &*sink, options)?.stored)
    }

    fn archive(
        &self,
        source: &dyn Source,
        options: &Options,
        (path, name, docker): (&Path, Option<&str>, bool),
    ) -> Result<Document> {
        let to_stdout = path == Path::new("-");
        if to_stdout && io::stdout().is_terminal() {
            fault!(Usage, "refusing to write an archive to a terminal");
        }
        let written = name.filter(|_| !docker).map(Into::into);
        let name = name.map(|text| text.parse::<Reference>().map(Reference::or_latest)).transpose()?;
        let names = name.into_iter().chain(self.names.iter().cloned()).collect();
        let items = [Item { written, ..self.pass(source, options, names)? }];
        if to_stdout {
            let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
            write(self.store, &items, docker, &mut out)?;
            out.flush().context("write to stdout")?;
        } else {
            to_file(path, |out| write(self.store, &items, docker, out))?;
        }
        let [item] = items;
        Ok(item.document)
    }

    /// Brings an image into the store, where no name holds it.
    fn pass(&self, source: &dyn Source, options: &Options, names: Vec<Reference>) -> Result<Item> {
        let sink = Passing(LocalSink::new(self.store, self.lease, Vec::new(), None));
        Ok(Item { document: transfer(source, &sink, options)?.stored, names, written: None })
    }
}

/// The image of an archive that `name` means, or the only one.
fn pick(mut found: Vec<Found>, title: &str, name: Option<&str>) -> Result<Found> {
    if let Some(text) = name {
        let wanted = text.parse::<Reference>().map(Reference::or_latest);
        let named = |image: &Found| wanted.as_ref().is_ok_and(|wanted| image.names.contains(wanted));
        found.retain(|image| named(image) || image.marks.iter().any(|mark| mark == text));
    }
    if found.len() > 1 {
        fault!(Usage, "{title} holds {} images: name one after a colon", found.len());
    }
    match (found.pop(), name) {
        (Some(image), _) => Ok(image),
        (None, Some(name)) => fault!(NotFound, "no image {name} in {title}"),
        (None, None) => fault!(NotFound, "no image in {title}"),
    }
}

/// The store as a stop on the way: nothing gets an entry in its index.
struct Passing<'s>(LocalSink<'s>);

impl Sink for Passing<'_> {
    fn announce(&self, blobs: &[Descriptor]) -> Result<()> {
        self.0.announce(blobs)
    }

    fn put(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar) -> Result<()> {
        self.0.put(descriptor, source, bar)
    }

    fn put_document(&self, document: &Document, _top: bool) -> Result<()> {
        self.0.put_document(document, false)
    }
}
