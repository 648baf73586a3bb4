//! `imgtool copy SOURCE DESTINATION`

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::{atomic, fault};

use super::{open_store, save};
use crate::place::archive::{Item, write};
use crate::place::dir::{DirSink, DirSource};
use crate::place::ingest::{Found, ingest, open};
use crate::place::layout::{LayoutSink, LayoutSource};
use crate::place::local::{LocalSink, LocalSource};
use crate::place::location::Location;
use crate::place::remote::{RemoteSink, RemoteSource};
use crate::place::{Sink, Source};
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::store::Store;
use crate::store::document::{Document, Platform};
use crate::store::lease::Lease;
use crate::transfer::progress::Progress;
use crate::transfer::{Options, Platforms, transfer};

/// Flags of `copy`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Places: docker://NAME (a registry), store:NAME (images of this tool), oci:DIR[:NAME], \
                        oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR; - as FILE is stdin or stdout.\n\
                        Manifests are copied byte for byte, so digests stay. Between registries nothing is stored \
                        here, and blobs are mounted where both are the same registry."
)]
pub struct Args {
    /// From where
    source: Location,
    /// To where
    destination: Location,
    /// Of an index, only the images for these platforms (os/arch[/variant], separated by commas)
    #[arg(long, value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Of an index, all images
    #[arg(short, long, conflicts_with = "platform")]
    all: bool,
    /// Write the digest of what was copied to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// Blobs at a time
    #[arg(short, long, default_value_t = 5)]
    jobs: usize,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; either place fails.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let client = Client::new(store.paths(), &args.registry)?;
    let lease = store.lease()?;
    let copied = copy(&store, &client, &lease, args);
    drop(lease);
    // Archives pass through the store; what no name holds goes.
    if through_store(&args.source) || through_store(&args.destination) {
        store.collect(false)?;
    }
    let document = copied?;
    if let Some(file) = &args.digestfile {
        atomic::write(file, document.digest.to_string().as_bytes(), 0o644)?;
    }
    Ok(Exit::Ok)
}

const fn through_store(location: &Location) -> bool {
    matches!(location, Location::OciArchive(..) | Location::DockerArchive(..))
}

fn copy(store: &Store, client: &Client, lease: &Lease, args: &Args) -> Result<Document> {
    let source = source(store, client, lease, &args.source)?;
    let options = Options {
        platforms: Platforms::from_flags(&args.platform, args.all),
        jobs: args.jobs,
        progress: Progress::new(args.quiet),
    };
    let sink: Box<dyn Sink + '_> = match &args.destination {
        Location::Registry(name) => Box::new(RemoteSink::new(client, name)?),
        Location::Store(name) => {
            let name = name.parse::<Reference>()?.or_latest();
            Box::new(LocalSink::new(store, lease, vec![name], None))
        }
        Location::Layout(dir, name) => Box::new(LayoutSink::open(dir, name.as_deref())?),
        Location::Dir(dir) => Box::new(DirSink::open(dir)?),
        Location::OciArchive(path, name) => {
            return to_archive(store, lease, &*source, &options, (path, name.as_deref(), false));
        }
        Location::DockerArchive(path, name) => {
            return to_archive(store, lease, &*source, &options, (path, name.as_deref(), true));
        }
    };
    Ok(transfer(&*source, &*sink, &options)?.stored)
}

fn source<'a>(
    store: &'a Store,
    client: &'a Client,
    lease: &Lease,
    place: &Location,
) -> Result<Box<dyn Source + 'a>> {
    Ok(match place {
        Location::Registry(name) => Box::new(RemoteSource::new(client, name)?),
        Location::Store(name) => {
            let (_, target) = store.resolve(name)?;
            lease.hold_all(&target)?;
            let known = store.load(&target, None, &Platform::host()).map(|image| image.repo_digests);
            Box::new(LocalSource::new(store, target, known.unwrap_or_default()))
        }
        Location::Layout(dir, name) => Box::new(LayoutSource::open(dir, name.as_deref())?),
        Location::Dir(dir) => Box::new(DirSource::open(dir)?),
        Location::OciArchive(path, name) | Location::DockerArchive(path, name) => {
            let mut reader = open(path)?;
            let found =
                ingest(store, lease, &mut reader).with_context(|| format!("read {}", path.display()))?;
            let found = pick(found, path, name.as_deref())?;
            Box::new(LocalSource::new(store, found.document.descriptor(), Vec::new()))
        }
    })
}

/// The image of an archive that `name` means, or the only one.
fn pick(mut found: Vec<Found>, path: &Path, name: Option<&str>) -> Result<Found> {
    if let Some(text) = name {
        let wanted = text.parse::<Reference>()?.or_latest();
        found.retain(|image| image.names.contains(&wanted));
    }
    if found.len() > 1 {
        fault!(Usage, "{} holds {} images: name one after a colon", path.display(), found.len());
    }
    match (found.pop(), name) {
        (Some(image), _) => Ok(image),
        (None, Some(name)) => fault!(NotFound, "no image {name} in {}", path.display()),
        (None, None) => fault!(NotFound, "no image in {}", path.display()),
    }
}

fn to_archive(
    store: &Store,
    lease: &Lease,
    source: &dyn Source,
    options: &Options,
    (path, name, docker): (&Path, Option<&str>, bool),
) -> Result<Document> {
    let to_stdout = path == Path::new("-");
    if to_stdout && io::stdout().is_terminal() {
        fault!(Usage, "refusing to write an archive to a terminal");
    }
    let names: Vec<Reference> = match name {
        Some(text) => vec![text.parse::<Reference>()?.or_latest()],
        None => Vec::new(),
    };
    let sink = Passing(LocalSink::new(store, lease, Vec::new(), None));
    let document = transfer(source, &sink, options)?.stored;
    let items = [Item { document, names }];
    if to_stdout {
        let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
        write(store, &items, docker, &mut out)?;
        out.flush().context("write to stdout")?;
    } else {
        save::to_file(path, |out| write(store, &items, docker, out))?;
    }
    let [item] = items;
    Ok(item.document)
}

/// The store as a stop on the way: nothing gets an entry in its index.
struct Passing<'s>(LocalSink<'s>);

impl Sink for Passing<'_> {
    fn announce(&self, blobs: &[crate::store::document::Descriptor]) -> Result<()> {
        self.0.announce(blobs)
    }

    fn put(
        &self,
        descriptor: &crate::store::document::Descriptor,
        source: &dyn Source,
        bar: &crate::transfer::progress::Bar,
    ) -> Result<()> {
        self.0.put(descriptor, source, bar)
    }

    fn put_document(&self, document: &Document, _top: bool) -> Result<()> {
        self.0.put_document(document, false)
    }
}
