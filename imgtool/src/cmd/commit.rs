//! `imgtool commit`: a bundle's changes as an image.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::tool;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::path::Root;

use crate::build::{change, work};
use crate::bundle::base::Base;
use crate::bundle::record::Record;
use crate::layer::changes::Change;
use crate::layer::compare::{self, Changes};
use crate::layer::diff;
use crate::layer::extracted::Layers;
use crate::layer::pack::Packer;
use crate::reference::Reference;
use crate::rootfs::RootFs;
use crate::stdout;
use crate::store::Store;
use crate::store::config::History;
use crate::store::document::Descriptor;
use crate::store::lease::Lease;

/// Make an image of a bundle's changes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  imgtool commit -m 'with data' -c 'CMD [\"/serve\"]' b web:2")]
pub struct Args {
    /// The bundle's directory
    dir: PathBuf,
    /// Names for the image
    names: Vec<Reference>,
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,
    /// A remark for the history
    #[arg(short, long)]
    message: Option<String>,
    /// Dockerfile instruction that changes the config: CMD ENTRYPOINT ENV EXPOSE LABEL ONBUILD USER VOLUME WORKDIR …
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// Pause this container of the runtime meanwhile
    #[arg(short, long, value_name = "CONTAINER")]
    pause: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// No bundle there, a bad change, no space.
pub fn run(args: &Args) -> Result<Exit> {
    let record = Record::of(&args.dir)?;
    if record.form.plain {
        // First of all: threads started later inherit it.
        work::enter_private_mounts()?;
    }
    let store = super::open_store()?;
    let image = store.image(&record.image_id.to_string())?;
    // Before anything is read: a wrong instruction should not cost a walk over all files.
    let mut config = change::apply(image.config.clone(), &args.changes)?;
    let mut layers = image.layers()?;
    let lease = store.lease()?;
    lease.hold(layers.iter().map(|(blob, _)| &blob.digest).chain([&image.id]))?;
    let paused = args.pause.as_deref().map(Paused::new).transpose()?;
    let packed =
        pack(&store, &record, &layers, &lease).with_context(|| format!("commit {}", args.dir.display()))?;
    drop(paused);
    config.created = Some(jiff::Timestamp::now().to_string());
    if args.author.is_some() {
        config.author.clone_from(&args.author);
    }
    config.history.push(History {
        created: config.created.clone(),
        comment: args.message.clone(),
        author: args.author.clone(),
        empty_layer: packed.is_none(),
        ..History::default()
    });
    layers.extend(packed);
    config.rootfs.diff_ids = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
    let names: Vec<Reference> = args.names.iter().map(|name| name.clone().or_latest()).collect();
    let blobs = layers.into_iter().map(|(blob, _)| blob).collect();
    let made = store.add_image(&lease, &config.to_bytes()?, blobs, &names)?;
    stdout::line(made.id.to_string())?;
    Ok(Exit::Ok)
}

type Layer = (Descriptor, crate::store::digest::Digest);

/// What the bundle's upper directory holds, as a stored layer; `None` for nothing.
fn pack(store: &Store, record: &Record, below: &[Layer], lease: &Lease) -> Result<Option<Layer>> {
    if record.form.plain {
        return pack_plain(store, record, below, lease);
    }
    let lowers = match record.form.keep_links {
        true => vec![record.own_tree()],
        false => Layers::open(store.paths())?.ensure(store, below, None)?,
    };
    let roots: Vec<Root> = lowers
        .iter()
        .rev()
        .map(|path| Root::open(path))
        .collect::<std::io::Result<_>>()
        .context("open the layers")?;
    let rootfs = RootFs::at(&record.bundle);
    let upper = Root::open(&rootfs.upper).with_context(|| format!("open {}", rootfs.upper.display()))?;
    let options = diff::Options { over: Some(&roots), owners: record.owners(), ..diff::Options::default() };
    let (packer, content) = diff::write(upper.as_fd(), &options, Packer::start(store)?)?;
    let Some(content) = content else { return Ok(None) };
    let packed = packer.finish(lease)?;
    store.note_unpacked(&packed.blob.digest, content);
    Ok(Some((packed.blob, packed.diff_id)))
}

/// The same for a bundle whose files are all in its rootfs: what is there and is not in the image.
fn pack_plain(store: &Store, record: &Record, below: &[Layer], lease: &Lease) -> Result<Option<Layer>> {
    let base = Base::of(store, record, below)?;
    let root = Root::open(&RootFs::at(&record.bundle).target).context("open the rootfs")?;
    let (gone, there): (Changes, Changes) =
        compare::trees(base.root(), &root)?.into_iter().partition(|(change, _)| *change == Change::Deleted);
    let only = there.into_iter().map(|(_, path)| path).collect();
    let gone: Vec<PathBuf> = gone.into_iter().map(|(_, path)| path).collect();
    let options = diff::Options { only: Some(&only), ..diff::Options::default() };
    let root = root.open_in(Path::new(""), OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
    let (packer, content) = diff::changes(root.as_fd(), &options, &gone, Packer::start(store)?)?;
    let Some(content) = content else { return Ok(None) };
    let packed = packer.finish(lease)?;
    store.note_unpacked(&packed.blob.digest, content);
    Ok(Some((packed.blob, packed.diff_id)))
}

/// A container that is paused while this lives.
struct Paused<'a> {
    container: &'a str,
}

impl<'a> Paused<'a> {
    fn new(container: &'a str) -> Result<Self> {
        let status = Command::new(tool::find("runtime"))
            .args(["pause", container])
            .stdin(Stdio::null())
            .status()
            .context("execute the runtime")?;
        anyhow::ensure!(status.success(), "pause {container}: the runtime failed");
        Ok(Self { container })
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // A container that ended meanwhile needs no resuming.
        let _ = Command::new(tool::find("runtime"))
            .args(["resume", self.container])
            .stdin(Stdio::null())
            .status();
    }
}
