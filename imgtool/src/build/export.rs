//! Writing a finished build to where `--output` says.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;

use super::Built;
use super::output::{Kind, Output};
use super::product::Product;
use super::work::Work;
use crate::layer::extracted::Layers;
use crate::layer::read::Limits;
use crate::layer::{apply, diff};
use crate::place::archive::{self, Item};
use crate::place::layout::LayoutSink;
use crate::place::local::LocalSource;
use crate::place::remote::RemoteSink;
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::rootfs::RootFs;
use crate::store::Store;
use crate::store::document::Document;
use crate::transfer::progress::Progress;
use crate::transfer::{Options, Platforms, transfer};

/// Blobs at a time, as `push`.
const JOBS: usize = 5;

/// A file to add to exported files: how they were made.
pub struct Told {
    /// Its name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Writes the image itself: to an archive, a layout, the store or a registry, under `names`.
///
/// # Errors
/// No space; the destination cannot be written; the registry refuses.
pub fn image(
    store: &Store,
    product: &Product,
    output: &Output,
    names: &[Reference],
    flags: &Flags,
) -> Result<()> {
    let mut all = names.to_vec();
    all.extend(output.names.iter().filter(|name| !names.contains(name)).cloned());
    match (output.kind, output.dest.as_deref()) {
        (Kind::Local | Kind::Tar, _) => Ok(()),
        (Kind::Image, _) | (Kind::Docker, None) => {
            if output.kind == Kind::Docker {
                single(product)?;
            }
            product.keep(store, &all)?;
            if output.push { push(store, product, output, &all, flags) } else { Ok(()) }
        }
        (Kind::Registry, _) => push(store, product, output, &all, flags),
        (Kind::Oci, Some(dest)) if !output.tar => {
            for name in all.iter().map(Some).chain(all.is_empty().then_some(None)) {
                let sink = LayoutSink::open(Path::new(dest), name.map(ToString::to_string).as_deref())?;
                send(store, &product.document, &sink)?;
            }
            Ok(())
        }
        (Kind::Oci, dest) => archive(store, &product.document, (dest, false), all),
        // Docker's form has one image of one platform, without anything attached.
        (Kind::Docker, dest) => archive(store, single(product)?, (dest, true), all),
    }
}

fn single(product: &Product) -> Result<&Document> {
    match product.images.as_slice() {
        [image] => Ok(&image.document),
        _ => fault!(Usage, "--output type=docker holds one platform: use type=oci or type=image"),
    }
}

fn push(store: &Store, product: &Product, output: &Output, names: &[Reference], flags: &Flags) -> Result<()> {
    if names.is_empty() {
        fault!(Usage, "tag is needed when pushing to registry");
    }
    let mut flags = flags.clone();
    if output.insecure {
        flags.tls_verify = Some(false);
    }
    let client = Client::new(store.paths(), &flags)?;
    for name in names {
        let sink = RemoteSink::new(&client, name)?;
        send(store, &product.document, &sink).with_context(|| format!("push {}", name.familiar()))?;
    }
    Ok(())
}

fn send(store: &Store, document: &Document, sink: &dyn crate::place::Sink) -> Result<()> {
    let source = LocalSource::new(store, document.descriptor(), Vec::new());
    let options =
        Options { platforms: Platforms::All, jobs: JOBS, progress: Progress::new(true), repack: None };
    transfer(&source, sink, &options).map(drop)
}

fn archive(
    store: &Store,
    document: &Document,
    (dest, docker): (Option<&str>, bool),
    names: Vec<Reference>,
) -> Result<()> {
    let items = [Item { document: document.clone(), names, written: None }];
    let write = |out: &mut dyn Write| archive::write(store, &items, docker, out);
    let Some(dest) = dest.filter(|dest| *dest != "-") else {
        if io::stdout().is_terminal() {
            fault!(Usage, "dest file is required for an archive: refusing to write to a terminal");
        }
        let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
        write(&mut out)?;
        return out.flush().context("write to stdout");
    };
    crate::place::archive::to_file(Path::new(dest), write)
}

/// Writes the files of `built`: to a directory (of each platform's own where there are several), or to an archive.
/// `told` is what to add of how each was made.
///
/// # Errors
/// As [`image`].
pub fn files(store: &Store, built: &[Built], output: &Output, told: &[Told]) -> Result<()> {
    let split = output.split.unwrap_or(built.len() > 1);
    if built.len() > 1 && (output.kind == Kind::Tar || !split) {
        fault!(Usage, "files of several platforms need a directory of their own: use type=local");
    }
    for (at, one) in built.iter().enumerate() {
        let told = told.get(at);
        let dest = output.dest.as_deref().unwrap_or("-");
        if output.kind == Kind::Tar {
            tree(store, one, told, &|root| match dest {
                "-" => write(root, io::stdout().lock()),
                dest => write(root, File::create(dest).with_context(|| format!("create {dest}"))?),
            })?;
            continue;
        }
        let dest = if split {
            Path::new(dest).join(one.platform().to_string().replace('/', "_"))
        } else {
            Path::new(dest).to_owned()
        };
        tree(store, one, told, &|root| local(root, &dest))?;
    }
    Ok(())
}

/// Mounts what was built, writable and thrown away afterwards.
fn tree(store: &Store, built: &Built, told: Option<&Told>, then: &dyn Fn(&File) -> Result<()>) -> Result<()> {
    let layers = Layers::open(store.paths())?;
    let lease = store.lease()?;
    lease.hold(built.layers().iter().map(|(_, diff_id)| diff_id))?;
    let lowers = layers.ensure(store, built.layers(), None)?;
    let work = Work::new(store.paths())?;
    let rootfs = RootFs::at(work.path());
    rootfs.create(&lowers, None)?;
    rootfs.mount(&layers, &lowers, true)?;
    if let Some(Told { name, bytes }) = told {
        let name = Path::new(name).file_name().context("the provenance's file has no name")?;
        let root = sys::path::Root::open(&rootfs.target)?;
        let flags = nix::fcntl::OFlag::O_CREAT | nix::fcntl::OFlag::O_EXCL | nix::fcntl::OFlag::O_WRONLY;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        let file = root.open_in(Path::new(name), flags, mode);
        let file = file.with_context(|| format!("write {} beside the files", name.display()))?;
        File::from(file).write_all(bytes)?;
    }
    then(&File::open(&rootfs.target)?)
}

fn write(root: &File, output: impl Write) -> Result<()> {
    let output = BufWriter::with_capacity(256 << 10, output);
    let (output, _) = diff::write(root.as_fd(), &diff::Options::default(), output)?;
    output.into_inner().map_err(io::IntoInnerError::into_error)?.flush()?;
    Ok(())
}

/// Through an archive in a pipe: the one place that knows how to make files safely.
fn local(root: &File, dest: &Path) -> Result<()> {
    fs::create_dir_all(dest).with_context(|| format!("make {}", dest.display()))?;
    let target = File::open(dest)?;
    let (reader, writer) = io::pipe().context("make a pipe")?;
    let owner = Some((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    let options =
        apply::Options { owner, ..apply::Options::new(apply::Deletions::Refused, Limits::default()) };
    std::thread::scope(|scope| {
        let unpack = scope.spawn(move || {
            apply::apply(
                io::BufReader::with_capacity(128 << 10, reader),
                target.as_fd().try_clone_to_owned()?,
                options,
            )
        });
        let written = write(root, writer);
        unpack.join().map_err(|_| anyhow::anyhow!("the unpacking thread ended badly"))??;
        written
    })
    .with_context(|| format!("write {}", dest.display()))
}
