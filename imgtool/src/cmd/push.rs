//! `imgtool push NAME [DESTINATION]`

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault::{Fault, Kind};
use contracts::{atomic, fault};

use super::open_store;
use crate::place::local::LocalSource;
use crate::place::location::Location;
use crate::place::open::Opener;
use crate::place::remote::RemoteSink;
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::{Descriptor, Platform};
use crate::store::index::{add_repo_digest, name_of};
use crate::transfer::compress::{Format, Wish, compressed};
use crate::transfer::progress::Progress;
use crate::transfer::repack::Repack;
use crate::transfer::{Options, Platforms, transfer};

/// Flags of `push`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Blobs that the registry has are not sent; blobs that another repository of it has are mounted."
)]
pub struct Args {
    /// The image to push: a name, or with DESTINATION also an id
    image: String,
    /// Where to, if not to the registry in the image's own name: a name, or a place as of `copy` (docker-daemon:NAME,
    /// oci:./DIR, …)
    destination: Option<Destination>,
    /// Every tag of the repository
    #[arg(short, long, conflicts_with = "destination")]
    all_tags: bool,
    /// The image for these platforms only (os/arch[/variant], separated by commas)
    #[arg(long, value_delimiter = ',')]
    platform: Vec<Platform>,
    /// How to pack layers that are not packed
    #[arg(long, value_enum, default_value = "gzip")]
    compression_format: Format,
    /// How much to pack: gzip 0 to 9, zstd -7 to 22
    #[arg(long, allow_hyphen_values = true)]
    compression_level: Option<i32>,
    /// Also repack layers that are packed in another way
    #[arg(long)]
    force_compression: bool,
    /// Write the pushed manifest's digest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// No progress, no output
    #[arg(short, long)]
    quiet: bool,
    /// Blobs at a time
    #[arg(short, long, default_value_t = 5)]
    jobs: usize,
    #[command(flatten)]
    registry: Flags,
}

/// Where an image may be pushed to.
#[derive(Debug, Clone)]
enum Destination {
    Name(Reference),
    Place(Location),
}

impl FromStr for Destination {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        match Location::beside_names(text) {
            Some(Ok(Location::Registry(name))) => Ok(Self::Name(name)),
            Some(place) => place.map(Self::Place),
            None => text.parse().map(Self::Name),
        }
    }
}

/// # Errors
/// No such image; the registry fails or refuses.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let client = Client::new(store.paths(), &args.registry)?;
    for (source, destination) in pairs(&store, args)? {
        let digest = match &destination {
            Destination::Name(name) => one(&store, &client, &source, name, args)?,
            Destination::Place(place) => to_place(&store, &client, &source, place, args)?,
        };
        if let Some(file) = &args.digestfile {
            atomic::write(file, digest.to_string().as_bytes(), 0o644)?;
        }
    }
    Ok(Exit::Ok)
}

/// What goes where.
fn pairs(store: &Store, args: &Args) -> Result<Vec<(Descriptor, Destination)>> {
    if args.all_tags {
        let name: Reference = args.image.parse()?;
        if name.tag().is_some() || name.digest().is_some() {
            fault!(Usage, "tag can't be used with --all-tags/-a: {}", args.image);
        }
        let entries = store.entries()?.into_iter().filter_map(|entry| Some((name_of(&entry)?, entry)));
        let pairs: Vec<_> = entries
            .filter(|(own, _)| own.repository() == name.repository() && own.tag().is_some())
            .map(|(own, entry)| (entry, Destination::Name(own)))
            .collect();
        if pairs.is_empty() {
            fault!(NotFound, "An image does not exist locally with the tag: {}", name.familiar());
        }
        return Ok(pairs);
    }
    let (name, target) = store.resolve(&args.image).map_err(|err| match Kind::of(&err) {
        Some(Kind::NotFound) => Fault::new(
            Kind::NotFound,
            format!("An image does not exist locally with the tag: {}", args.image),
        )
        .into(),
        _ => err,
    })?;
    match args.destination.clone().or(name.map(Destination::Name)) {
        Some(Destination::Name(name)) => Ok(vec![(target, Destination::Name(name.or_latest()))]),
        Some(place) => Ok(vec![(target, place)]),
        None => fault!(Usage, "{} is an id: name the destination too", args.image),
    }
}

/// Sends an image to a place that is no registry; the layers keep their packing unless it is to be changed.
fn to_place(
    store: &Store,
    client: &Client,
    source: &Descriptor,
    place: &Location,
    args: &Args,
) -> Result<Digest> {
    let send = || -> Result<Digest> {
        let lease = store.lease()?;
        lease.hold_all(source)?;
        let wish = Wish { format: args.compression_format, level: args.compression_level, force: true };
        let options = Options {
            platforms: Platforms::from_flags(&args.platform, args.platform.is_empty()),
            jobs: args.jobs,
            progress: Progress::new(args.quiet),
            repack: args.force_compression.then(|| Repack { wish: Some(wish), store: store.clone() }),
        };
        let opener = Opener { store, client, lease: &lease, engine: None, names: &[] };
        let source = LocalSource::new(store, source.clone(), Vec::new());
        Ok(opener.deliver(&source, place, &options)?.digest)
    };
    let sent = send();
    if place.through_store() {
        store.collect(false)?;
    }
    sent
}

fn one(store: &Store, client: &Client, source: &Descriptor, name: &Reference, args: &Args) -> Result<Digest> {
    let lease = store.lease()?;
    lease.hold_all(source)?;
    let known = store.entries()?.iter().flat_map(crate::store::index::repo_digests).collect();
    let wish = Wish {
        format: args.compression_format,
        level: args.compression_level,
        force: args.force_compression,
    };
    let document = compressed(store, &lease, &store.document(source)?, wish)?;
    let source = LocalSource::new(store, document.descriptor(), known);
    let sink = RemoteSink::new(client, name)?;
    let platforms = match &args.platform[..] {
        [] => Platforms::All,
        listed => Platforms::from_flags(listed, false),
    };
    let options = Options { platforms, jobs: args.jobs, progress: Progress::new(args.quiet), repack: None };
    let moved = transfer(&source, &sink, &options)?;
    let digest = moved.stored.digest.clone();
    let pushed = name.with_digest(digest.clone());
    store.update(|index| {
        for entry in &mut index.manifests {
            if entry.digest == document.digest || name_of(entry).as_ref() == Some(name) {
                add_repo_digest(entry, &pushed);
            }
        }
        Ok(())
    })?;
    if !args.quiet {
        let size = moved.stored.bytes.len();
        stdout::line(format!("{}: digest: {digest} size: {size}", name.tag().unwrap_or(name.path())))?;
    }
    Ok(digest)
}
