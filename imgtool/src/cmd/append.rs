//! `imgtool append IMAGE FILE...`: archives as further layers of an image.

use anyhow::{Context as _, Result};
use contracts::exit::Exit;

use super::import::{layer, source};
use crate::reference::Reference;
use crate::stdout;
use crate::store::config::History;

/// Flags of `append`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing of the image is unpacked. A name .wh.NAME in an archive deletes NAME of the layers \
                        below.\nExample: tar c site | imgtool append nginx - -t web"
)]
pub struct Args {
    /// The image: a name, an id or the beginning of one
    image: String,
    /// Archives (plain, or packed with gzip, zstd, bzip2 or xz), lowest first; - is stdin
    #[arg(required = true, value_name = "FILE|URL|-")]
    layers: Vec<String>,
    /// Name for the result; may be repeated
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<Reference>,
    /// A remark for the history
    #[arg(short, long)]
    message: Option<String>,
}

/// # Errors
/// No such image; a file that is no archive; no space.
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let image = store.image(&args.image)?;
    let mut layers = image.layers()?;
    let lease = store.lease()?;
    lease.hold(layers.iter().map(|(blob, _)| &blob.digest).chain([&image.id]))?;
    let mut config = image.config.clone();
    config.created = Some(jiff::Timestamp::now().to_string());
    for from in &args.layers {
        let mut source = source(&store, from)?;
        let added =
            layer(&store, &lease, &mut source).with_context(|| format!("append {from} to {}", args.image))?;
        config.history.push(History {
            created: config.created.clone(),
            created_by: Some(format!("imgtool append {from}")),
            comment: args.message.clone(),
            ..History::default()
        });
        layers.push((added.clone(), added.digest));
    }
    config.rootfs.diff_ids = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
    let names: Vec<Reference> = args.tags.iter().map(|name| name.clone().or_latest()).collect();
    let blobs = layers.into_iter().map(|(blob, _)| blob).collect();
    let made = store.add_image(&lease, &config.to_bytes()?, blobs, &names)?;
    stdout::line(made.id.to_string())?;
    Ok(Exit::Ok)
}
