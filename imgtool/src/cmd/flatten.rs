//! `imgtool flatten IMAGE [NAME...]`: an image's files as one layer.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result};
use contracts::exit::Exit;

use crate::build::{sweep, work};
use crate::layer::diff;
use crate::layer::extracted::Layers;
use crate::layer::pack::Packer;
use crate::reference::Reference;
use crate::rootfs::view::View;
use crate::stdout;
use crate::store::config::History;

/// Flags of `flatten`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What later layers deleted or replaced is gone from the result, and with it the sharing of \
                        layers with other images.\nExample: imgtool flatten web:build web:small"
)]
pub struct Args {
    /// The image: a name, an id or the beginning of one
    image: String,
    /// Names for the result; may be the image's own
    names: Vec<Reference>,
    /// A remark for the history
    #[arg(short, long)]
    message: Option<String>,
}

/// # Errors
/// No such image; a damaged layer; no space.
pub fn run(args: &Args) -> Result<Exit> {
    // First of all: threads started later inherit it.
    work::enter_private_mounts()?;
    let store = super::open_store()?;
    sweep::sweep(store.paths())?;
    let image = store.image(&args.image)?;
    let layers = image.layers()?;
    let lease = store.lease()?;
    lease.hold(layers.iter().flat_map(|(blob, diff_id)| [&blob.digest, diff_id]).chain([&image.id]))?;
    let view = View::open(&store, &Layers::open(store.paths())?, &layers)?;
    let packer = Packer::start(&store)?;
    let (packer, content) = diff::write(view.root.as_fd(), &diff::Options::default(), packer)
        .with_context(|| format!("flatten {}", args.image))?;
    let mut config = image.config.clone();
    let history = History {
        created: config.created.clone(),
        created_by: Some(format!("imgtool flatten {}", image.title())),
        comment: args.message.clone(),
        empty_layer: content.is_none(),
        ..History::default()
    };
    let mut blobs = Vec::new();
    config.rootfs.diff_ids.clear();
    if let Some(content) = content {
        let packed = packer.finish(&lease)?;
        store.note_unpacked(&packed.blob.digest, content);
        config.rootfs.diff_ids.push(packed.diff_id);
        blobs.push(packed.blob);
    }
    config.history = vec![history];
    let names: Vec<Reference> = args.names.iter().map(|name| name.clone().or_latest()).collect();
    let made = store.add_image(&lease, &config.to_bytes()?, blobs, &names)?;
    stdout::line(made.id.to_string())?;
    Ok(Exit::Ok)
}
