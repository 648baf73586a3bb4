//! `imgtool sync SOURCE DESTINATION`: many images at once, for mirrors and machines without a network.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contracts::exit::Exit;
use contracts::{atomic, fault, report};

use crate::place::layout::{LayoutSink, LayoutSource};
use crate::place::local::{LocalSink, LocalSource};
use crate::place::location::Location;
use crate::place::remote::{RemoteSink, RemoteSource};
use crate::place::{Sink, Source};
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::Store;
use crate::store::document::{Index, Platform};
use crate::store::index::name_of;
use crate::store::lease::Lease;
use crate::transfer::progress::Progress;
use crate::transfer::{Options, Platforms, transfer};

/// Flags of `sync`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Sources: docker://REPOSITORY (all its tags), docker://REPOSITORY:TAG, docker://HOST/ (all repositories \
                        of a registry that lists them), oci:DIR (all images with a name), store: (likewise).\n\
                        Destinations: docker://HOST/PREFIX, oci:DIR, store:.\n\
                        An image REGISTRY/a/web:1 becomes PREFIX/web:1, with --scoped PREFIX/REGISTRY/a/web:1; in a layout \
                        and in the store it keeps its whole name. What is there already is not sent again.\n\
                        Example: imgtool sync docker://registry.example/web oci:/media/usb"
)]
pub struct Args {
    /// From where
    source: String,
    /// To where
    destination: String,
    /// All platforms of each image, not only this machine's
    #[arg(short, long, conflicts_with = "platform")]
    all: bool,
    /// These platforms (os/arch[/variant], separated by commas)
    #[arg(long, value_delimiter = ',')]
    platform: Vec<Platform>,
    /// Keep the source's registry and path below the destination
    #[arg(long)]
    scoped: bool,
    /// Say what would be copied
    #[arg(long)]
    dry_run: bool,
    /// Go on after an image that cannot be copied; exit code 1 at the end
    #[arg(short, long)]
    keep_going: bool,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
    /// Blobs at a time
    #[arg(short, long, default_value_t = 5)]
    jobs: usize,
    #[command(flatten)]
    registry: Flags,
}

/// Where images come from.
enum From {
    Registry,
    Layout(std::path::PathBuf),
    Store,
}

/// Where they go.
enum To {
    Registry(String),
    Layout(std::path::PathBuf),
    Store,
}

/// # Errors
/// A place fails; an image cannot be copied.
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let client = Client::new(store.paths(), &args.registry)?;
    let (from, names) = images(&store, &client, &args.source)?;
    let to = destination(&args.destination)?;
    if names.is_empty() {
        fault!(NotFound, "{} has no images with a name", args.source);
    }
    let mut failed = 0;
    for name in &names {
        let target = target(&to, name, args.scoped)?;
        stdout::line(format!("{} -> {}", name.familiar(), target.familiar()))?;
        if args.dry_run {
            continue;
        }
        match one(&store, &client, (&from, name), (&to, &target), args) {
            Ok(()) => {}
            Err(err) if args.keep_going => {
                failed += 1;
                report::say(format_args!("{}: {}", name.familiar(), report::one_line(&err)));
            }
            Err(err) => return Err(err.context(format!("copy {}", name.familiar()))),
        }
    }
    if failed > 0 {
        bail!("{failed} of {} images not copied", names.len());
    }
    Ok(Exit::Ok)
}

/// What the source holds, by name.
fn images(store: &Store, client: &Client, text: &str) -> Result<(From, Vec<Reference>)> {
    if text == "store:" {
        return Ok((From::Store, store.entries()?.iter().filter_map(name_of).collect()));
    }
    if let Some(rest) = text.strip_prefix("docker://") {
        if let Some(host) = rest.strip_suffix('/') {
            let endpoint = client.endpoint(host)?;
            let mut names = Vec::new();
            for path in client.catalog(&endpoint)? {
                names.extend(tags(client, &format!("{host}/{path}").parse()?)?);
            }
            return Ok((From::Registry, names));
        }
        let name = client.parse(rest)?;
        let single = name.tag().is_some() || name.digest().is_some();
        return Ok((From::Registry, if single { vec![name] } else { tags(client, &name)? }));
    }
    match text.parse::<Location>()? {
        Location::Layout(dir, None) => {
            let path = dir.join("index.json");
            let Some(index) = atomic::read_json::<Index>(&path)? else {
                fault!(NotFound, "{} is no OCI image layout: it has no index.json", dir.display());
            };
            // A bare tag, as many tools write, names no repository that anything could be copied to.
            let names = index.manifests.iter().filter_map(name_of).collect();
            Ok((From::Layout(dir), names))
        }
        _ => fault!(Usage, "invalid source '{text}': docker://REPOSITORY, oci:DIR or store: expected"),
    }
}

fn tags(client: &Client, name: &Reference) -> Result<Vec<Reference>> {
    let tags = client.repository(name, false)?.tags()?;
    tags.iter()
        .map(|tag| Ok(format!("{}:{tag}", name.repository()).parse::<Reference>()?))
        .collect::<Result<_>>()
        .with_context(|| format!("tags of {}", name.familiar()))
}

fn destination(text: &str) -> Result<To> {
    if text == "store:" {
        return Ok(To::Store);
    }
    if let Some(prefix) = text.strip_prefix("docker://") {
        return Ok(To::Registry(prefix.trim_end_matches('/').to_owned()));
    }
    match text.parse::<Location>()? {
        Location::Layout(dir, None) => Ok(To::Layout(dir)),
        _ => fault!(Usage, "invalid destination '{text}': docker://HOST/PREFIX, oci:DIR or store: expected"),
    }
}

/// The name that an image gets at its destination.
fn target(to: &To, name: &Reference, scoped: bool) -> Result<Reference> {
    let To::Registry(prefix) = to else { return Ok(name.clone()) };
    let path = name.path();
    let rest = match scoped {
        // A port's colon cannot stand in a path.
        true => format!("{}/{path}", name.domain().replace(':', "-")),
        false => path.rsplit('/').next().unwrap_or(path).to_owned(),
    };
    let end = match (name.tag(), name.digest()) {
        (Some(tag), _) => format!(":{tag}"),
        (None, Some(digest)) => format!("@{digest}"),
        (None, None) => String::new(),
    };
    Ok(format!("{prefix}/{rest}{end}").parse()?)
}

fn one(
    store: &Store,
    client: &Client,
    (from, name): (&From, &Reference),
    (to, target): (&To, &Reference),
    args: &Args,
) -> Result<()> {
    let lease = store.lease()?;
    let source = source(store, client, &lease, from, name)?;
    let sink: Box<dyn Sink + '_> = match to {
        To::Registry(_) => Box::new(RemoteSink::new(client, target)?),
        To::Layout(dir) => Box::new(LayoutSink::open(Path::new(dir), Some(&target.to_string()))?),
        To::Store => Box::new(LocalSink::new(store, &lease, vec![target.clone()], None)),
    };
    let options = Options {
        platforms: Platforms::from_flags(&args.platform, args.all),
        jobs: args.jobs,
        progress: Progress::new(args.quiet),
        repack: None,
    };
    transfer(&*source, &*sink, &options)?;
    Ok(())
}

fn source<'a>(
    store: &'a Store,
    client: &'a Client,
    lease: &Lease,
    from: &From,
    name: &Reference,
) -> Result<Box<dyn Source + 'a>> {
    Ok(match from {
        From::Registry => Box::new(RemoteSource::new(client, name)?),
        From::Layout(dir) => Box::new(LayoutSource::open(dir, Some(&name.to_string()))?),
        From::Store => {
            let (_, target) = store.resolve(&name.to_string())?;
            lease.hold_all(&target)?;
            let known = store.load(&target, None, &Platform::host()).map(|image| image.repo_digests);
            Box::new(LocalSource::new(store, target, known.unwrap_or_default()))
        }
    })
}
