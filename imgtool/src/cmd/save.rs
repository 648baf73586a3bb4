//! `imgtool save IMAGE... > FILE`

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::Path;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use contracts::exit::Exit;
use contracts::fault;
use flate2::Compression;

use super::open_store;
use crate::layer::gzip::Gzip;
use crate::place::archive::{Item, write};
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

/// Writes to the side and renames, unless `path` is a device or a pipe.
pub(crate) fn to_file(path: &Path, write_to: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let special = fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let mut side = path.as_os_str().to_owned();
    side.push(format!(".{}.tmp", std::process::id()));
    let side = if special { path.to_path_buf() } else { PathBuf::from(side) };
    if !special {
        sweep_beside(path);
    }
    let made = || format!("write {}", path.display());
    let written = (|| {
        let file = if special { File::options().write(true).open(&side) } else { File::create(&side) };
        let mut out = BufWriter::with_capacity(256 << 10, file.with_context(made)?);
        write_to(&mut out).with_context(made)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(made)?;
        if special {
            return Ok(());
        }
        file.sync_data().with_context(made)?;
        fs::rename(&side, path).with_context(made)
    })();
    if written.is_err() && !special {
        let _ = fs::remove_file(&side);
    }
    written
}

/// Removes what killed commands left of the archive `path`: its name with `.PID.tmp` of a process that is no more.
fn sweep_beside(path: &Path) {
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else { return };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let own = entry.file_name();
        let rest = own.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
        let pid =
            rest.and_then(|rest| std::str::from_utf8(rest.strip_prefix(b".")?.strip_suffix(b".tmp")?).ok());
        let Some(pid) = pid.and_then(|text| text.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            // Left for the next time where it cannot be removed.
            let _ = fs::remove_file(entry.path());
        }
    }
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
                None => items.push(Item { document, names: names.collect() }),
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
    let entries = store.index()?.manifests.into_iter().map(|entry| (name_of(&entry), entry));
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
