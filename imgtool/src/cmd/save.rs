//! `imgtool save IMAGE... > FILE`

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use contracts::exit::Exit;
use contracts::fault;
use flate2::Compression;

use super::open_store;
use crate::layer::gzip::Gzip;
use crate::place::archive::{Item, to_file, write};
use crate::reference::Reference;
use crate::store::Store;
use crate::store::document::{Descriptor, Document, Kind, Platform};
use crate::store::index::name_of;
use crate::store::lease::Lease;

/// The archive's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For `docker load`, `podman load` and every OCI tool
    DockerArchive,
    /// An OCI image layout only
    OciArchive,
}

/// Flags of `save`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Layers are written as they are stored, compressed or not; docker, podman, skopeo and \
                        `imgtool load` read both."
)]
pub struct Args {
    /// Names, ids, or repositories with all their tags
    #[arg(required = true)]
    images: Vec<String>,
    /// Write to this file instead of stdout; it appears when it is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The archive's form
    #[arg(long, value_enum, default_value = "docker-archive")]
    format: Form,
    /// Of an index, the image for this platform
    #[arg(long)]
    platform: Option<Platform>,
    /// Compress the archive with gzip
    #[arg(long)]
    compress: bool,
}

/// # Errors
/// No such image; the output fails.
pub fn run(args: &Args) -> Result<Exit> {
    if args.output.is_none() && io::stdout().is_terminal() {
        fault!(Usage, "cowardly refusing to save to a terminal. Use the -o flag or redirect");
    }
    let store = open_store()?;
    let lease = store.lease()?;
    let items = items(&store, &lease, args)?;
    let docker = args.format == Form::DockerArchive;
    let write_to = |out: &mut dyn Write| {
        if !args.compress {
            return write(&store, &items, docker, out);
        }
        let mut encoder = Gzip::new(out, Compression::default());
        write(&store, &items, docker, &mut encoder)?;
        encoder.finish().map(|_| ()).context("compress archive")
    };
    match &args.output {
        None => {
            let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
            write_to(&mut out)?;
            out.flush().context("write to stdout")?;
        }
        Some(path) => to_file(path, write_to)?,
    }
    Ok(Exit::Ok)
}

/// The images asked for, each once with all names asked for.
fn items(store: &Store, lease: &Lease, args: &Args) -> Result<Vec<Item>> {
    let mut items: Vec<Item> = Vec::new();
    for text in &args.images {
        for (name, target) in targets(store, text)? {
            lease.hold_all(&target)?;
            let document = choose(store, &target, args.platform.as_ref())?;
            let names = name.into_iter().filter(|name| name.tag().is_some());
            match items.iter_mut().find(|item| item.document.digest == document.digest) {
                Some(item) => {
                    for name in names {
                        if !item.names.contains(&name) {
                            item.names.push(name);
                        }
                    }
                }
                None => items.push(Item { document, names: names.collect(), written: None }),
            }
        }
    }
    Ok(items)
}

/// One image, or all tags where `text` is a repository without the tag `latest`.
fn targets(store: &Store, text: &str) -> Result<Vec<(Option<Reference>, Descriptor)>> {
    let found = store.resolve(text);
    let Err(err) = found else { return Ok(vec![found?]) };
    let Ok(name) = text.parse::<Reference>() else { return Err(err) };
    if name.tag().is_some() || name.digest().is_some() {
        return Err(err);
    }
    let entries = store.entries()?.into_iter().map(|entry| (name_of(&entry), entry));
    let tags: Vec<_> = entries
        .filter(|(own, _)| own.as_ref().is_some_and(|own| own.repository() == name.repository()))
        .collect();
    if tags.is_empty() { Err(err) } else { Ok(tags) }
}

/// An index stays one only if it is whole: `load` elsewhere would miss the rest.
fn choose(store: &Store, target: &Descriptor, platform: Option<&Platform>) -> Result<Document> {
    let document = store.document(target)?;
    let Kind::Index(index) = &document.kind else { return Ok(document) };
    if platform.is_none() && index.manifests.iter().all(|child| store.has(&child.digest)) {
        return Ok(document);
    }
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    Ok(store.load(target, None, &wanted)?.document)
}
