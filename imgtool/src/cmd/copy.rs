//! `imgtool copy SOURCE DESTINATION`

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueEnum;
use contracts::exit::Exit;
use contracts::{atomic, fault};

use super::open_store;
use crate::place::location::Location;
use crate::place::open::Opener;
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::store::Store;
use crate::store::document::{Document, Platform};
use crate::transfer::compress::{Format, Wish};
use crate::transfer::progress::Progress;
use crate::transfer::repack::Repack;
use crate::transfer::{Options, Platforms};

/// Flags of `copy`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Places: docker://NAME (a registry), store:NAME (images of this tool), oci:DIR[:NAME], \
                        oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR, docker-daemon:NAME (docker's \
                        engine, at DOCKER_HOST); - as FILE is stdin or stdout.\n\
                        Manifests are copied byte for byte, so digests stay, unless layers are repacked. Between \
                        registries nothing is stored here, and blobs are mounted where both are the same registry."
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
    /// A further name for the image in an archive, docker's engine or the store; may be repeated
    #[arg(long, value_name = "NAME")]
    additional_tag: Vec<Reference>,
    /// Fail where the copy would get another digest
    #[arg(long, conflicts_with_all = ["dest_compress_format", "dest_compress_level", "dest_compress", "dest_decompress"])]
    preserve_digests: bool,
    /// Repack layers that are packed in another way; with a level, all of them
    #[arg(long, value_name = "FORMAT", help_heading = "Layers")]
    dest_compress_format: Option<Packed>,
    /// How much to pack: gzip 0 to 9, zstd -7 to 22
    #[arg(long, value_name = "LEVEL", allow_hyphen_values = true, help_heading = "Layers")]
    dest_compress_level: Option<i32>,
    /// Pack plain layers with gzip
    #[arg(long, conflicts_with_all = ["dest_compress_format", "dest_decompress"], help_heading = "Layers")]
    dest_compress: bool,
    /// Unpack all layers
    #[arg(long, conflicts_with_all = ["dest_compress_format", "dest_compress_level"], help_heading = "Layers")]
    dest_decompress: bool,
    /// Docker's engine to copy from, unix://PATH or tcp://HOST:PORT [default: $DOCKER_HOST]
    #[arg(long, value_name = "HOST", help_heading = "Engine")]
    src_daemon_host: Option<String>,
    /// Docker's engine to copy to
    #[arg(long, value_name = "HOST", help_heading = "Engine")]
    dest_daemon_host: Option<String>,
    #[command(flatten)]
    registry: Flags,
}

/// Formats of layers, as skopeo names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Packed {
    /// gzip, which everybody reads
    Gzip,
    /// zstd: smaller and faster to unpack
    Zstd,
    /// Not supported here
    #[value(name = "zstd:chunked", hide = true)]
    ZstdChunked,
}

/// # Errors
/// No such image; either place fails.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let client = Client::new(store.paths(), &args.registry)?;
    let copied = copy(&store, &client, args);
    // Archives pass through the store; what no name holds goes.
    if args.source.through_store() || args.destination.through_store() {
        store.collect(false)?;
    }
    let document = copied?;
    if let Some(file) = &args.digestfile {
        atomic::write(file, document.digest.to_string().as_bytes(), 0o644)?;
    }
    Ok(Exit::Ok)
}

fn copy(store: &Store, client: &Client, args: &Args) -> Result<Document> {
    let lease = store.lease()?;
    let from = Opener { store, client, lease: &lease, engine: args.src_daemon_host.as_deref(), names: &[] };
    let names: Vec<Reference> = args.additional_tag.iter().map(|name| name.clone().or_latest()).collect();
    let to = Opener { engine: args.dest_daemon_host.as_deref(), names: &names, ..from };
    if args.preserve_digests && args.platform.len() > 1 {
        fault!(Usage, "an index with only some of its images has another digest: --all or one platform");
    }
    let options = Options {
        platforms: Platforms::from_flags(&args.platform, args.all),
        jobs: args.jobs,
        progress: Progress::new(args.quiet),
        repack: repack(store, args)?,
    };
    let opened = from.source(&args.source)?;
    to.deliver(&*opened.source, &args.destination, &options)
}

fn repack(store: &Store, args: &Args) -> Result<Option<Repack>> {
    let level = args.dest_compress_level;
    let (format, force) = match args.dest_compress_format {
        Some(Packed::ZstdChunked) => {
            fault!(Unsupported, "zstd:chunked: layers are never fetched in parts here; use zstd");
        }
        Some(Packed::Zstd) => (Format::Zstd, true),
        Some(Packed::Gzip) => (Format::Gzip, true),
        None if level.is_some() => (Format::Gzip, true),
        None if args.dest_compress => (Format::Gzip, false),
        None if args.dest_decompress => return Ok(Some(Repack { wish: None, store: store.clone() })),
        None => return Ok(None),
    };
    Ok(Some(Repack { wish: Some(Wish { format, level, force }), store: store.clone() }))
}
