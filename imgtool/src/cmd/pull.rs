//! `imgtool pull NAME...`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use super::open_store;
use crate::place::local::LocalSink;
use crate::place::location::Location;
use crate::place::open::Opener;
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::Store;
use crate::store::document::{Document, Platform};
use crate::transfer::progress::Progress;
use crate::transfer::pull::{JOBS, pull};
use crate::transfer::{Options, Platforms, transfer};

/// Flags of `pull`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Layers of images for this machine are extracted while they come in. A broken download is gone on with by the \
                  next pull. Prints the full name of what was pulled."
)]
pub struct Args {
    /// What to pull: NAME, NAME:TAG, NAME@DIGEST, or a place as of `copy`: docker-daemon:NAME, oci:./DIR, …
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The image for these platforms (os/arch[/variant], separated by commas) instead of this machine's
    #[arg(long, value_delimiter = ',')]
    platform: Vec<Platform>,
    /// The images for all platforms
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Only store the blobs; the first bundle extracts the layers
    #[arg(long)]
    no_unpack: bool,
    /// No progress and no words
    #[arg(short, long)]
    quiet: bool,
    /// Blobs at a time
    #[arg(short, long, default_value_t = JOBS)]
    jobs: usize,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; the registry fails; no space.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let client = Client::new(store.paths(), &args.registry)?;
    for written in &args.names {
        if let Some(place) = Location::beside_names(written) {
            match place? {
                Location::Registry(name) => one(&store, &client, &name, args)?,
                place => from_place(&store, &client, &place, args)?,
            }
            continue;
        }
        let name: Reference = written.parse()?;
        let plain = name.tag().is_none() && name.digest().is_none();
        if !args.all_tags {
            if plain {
                say(args, "Using default tag: latest");
            }
            client.in_order(written, |name| one(&store, &client, &name.clone().or_latest(), args))?;
            continue;
        }
        if !plain {
            fault!(Usage, "a tag cannot be used with --all-tags: {written}");
        }
        let (name, tags) =
            client.in_order(written, |name| Ok((name.clone(), client.repository(name, false)?.tags()?)))?;
        for tag in tags {
            one(&store, &client, &format!("{name}:{tag}").parse()?, args)?;
        }
    }
    Ok(Exit::Ok)
}

fn one(store: &Store, client: &Client, name: &Reference, args: &Args) -> Result<()> {
    say(args, &format!("{}: Pulling from {}", name.manifest_name(), name.path()));
    let pulled = pull(store, client, name, &options(args), !args.no_unpack)?;
    let word = if pulled.up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
    say(args, &format!("Digest: {}", pulled.moved.asked.digest));
    say(args, &format!("Status: {word} {}", name.familiar()));
    stdout::line(name.to_string())
}

/// An image of a place that is no registry, under the names it has there.
fn from_place(store: &Store, client: &Client, place: &Location, args: &Args) -> Result<()> {
    let pulled = stored(store, client, place, args);
    // What came in with an archive and no name holds goes, also after a failure; its error is the one to tell.
    let collected = if place.through_store() { store.collect(false).map(drop) } else { Ok(()) };
    let (names, stored) = pulled?;
    collected?;
    say(args, &format!("Digest: {}", stored.digest));
    match names.first() {
        Some(name) => stdout::line(name.to_string()),
        None => stdout::line(stored.digest.to_string()),
    }
}

fn stored(
    store: &Store,
    client: &Client,
    place: &Location,
    args: &Args,
) -> Result<(Vec<Reference>, Document)> {
    let lease = store.lease()?;
    let opened = Opener { store, client, lease: &lease, engine: None, names: &[] }.source(place)?;
    let mut sink = LocalSink::new(store, &lease, opened.names.clone(), None);
    if !args.no_unpack {
        sink = sink.unpacking()?;
    }
    let moved = transfer(&*opened.source, &sink, &options(args))?;
    Ok((opened.names, moved.stored))
}

fn options(args: &Args) -> Options {
    Options {
        platforms: Platforms::from_flags(&args.platform, args.all_platforms),
        jobs: args.jobs,
        progress: Progress::new(args.quiet),
        repack: None,
    }
}

fn say(args: &Args, text: &str) {
    if !args.quiet {
        // Words beside the data: a closed stderr is no reason to stop.
        contracts::report::say(format_args!("{text}"));
    }
}
