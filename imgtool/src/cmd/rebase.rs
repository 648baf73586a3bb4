//! `imgtool rebase IMAGE --new-base NAME`: an image's own layers on top of another base, as a patched base asks for.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::obtain::{self, Policy};
use crate::reference::Reference;
use crate::registry::Flags;
use crate::stdout;
use crate::store::Store;
use crate::store::config::History;
use crate::store::document::Kind;
use crate::store::image::Image;

/// The base's name, as the image spec's annotations call it.
const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// The base's digest.
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// Flags of `rebase`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is unpacked or built: it is right where the two bases are versions of one thing. The config \
                  (ENV, CMD, …) stays the image's own. Bases that are not here are pulled.\n\
                  Without --old-base, the base that the image's annotations name.\n\
                  Example: imgtool rebase web --old-base debian:12.1 --new-base debian:12.2 -t web:patched"
)]
pub struct Args {
    /// The image: a name, an id or the beginning of one
    image: String,
    /// What its lowest layers come from
    #[arg(long, alias = "old_base", value_name = "NAME")]
    old_base: Option<String>,
    /// What to put in their place
    #[arg(long, alias = "new_base", value_name = "NAME")]
    new_base: Option<String>,
    /// Name for the result, instead of the image's own; may be repeated
    #[arg(short, long = "tag", alias = "rebased", value_name = "NAME")]
    tags: Vec<Reference>,
    /// When to ask the registry for a base
    #[arg(long, value_enum, default_value = "missing")]
    pull: Policy,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; the image does not stand on the old base; a base for another platform.
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let image = store.image(&args.image)?;
    let annotations = match &image.document.kind {
        Kind::Manifest(manifest) => manifest.annotations.clone(),
        Kind::Index(_) => Default::default(),
    };
    let named = |told: &Option<String>, key: &str, flag: &str| -> Result<String> {
        match told.as_ref().or(annotations.get(key)) {
            Some(name) => Ok(name.clone()),
            None => fault!(Usage, "image {} does not say what its base is: give {flag}", args.image),
        }
    };
    let new_name = named(&args.new_base, BASE_NAME, "--new-base")?;
    let old_name = match (&args.old_base, annotations.get(BASE_DIGEST), annotations.get(BASE_NAME)) {
        (None, Some(digest), Some(name)) => {
            let name = name.parse::<Reference>()?;
            name.with_digest(digest.parse().map_err(|err| anyhow::anyhow!("{BASE_DIGEST}: {err}"))?)
                .to_string()
        }
        _ => named(&args.old_base, BASE_NAME, "--old-base")?,
    };
    let base = |name: &str| get(&store, name, &image, args);
    let (old, new) = (base(&old_name)?, base(&new_name)?);
    let made = rebase(&store, &image, (&old_name, &old), (&new_name, &new), args)?;
    stdout::line(made.id.to_string())?;
    Ok(Exit::Ok)
}

/// A base for the image's platform.
fn get(store: &Store, name: &str, image: &Image, args: &Args) -> Result<Image> {
    let platform = image.config.platform();
    obtain::image(
        store,
        &obtain::Wish {
            name,
            platform: Some(&platform).filter(|platform| !platform.os.is_empty()),
            policy: args.pull,
            flags: &args.registry,
            unpack: false,
        },
    )
}

fn rebase(
    store: &Store,
    image: &Image,
    (old_name, old): (&str, &Image),
    (new_name, new): (&str, &Image),
    args: &Args,
) -> Result<Image> {
    let lease = store.lease()?;
    for image in [image, old, new] {
        lease.hold_all(&image.document.descriptor())?;
    }
    let below = &old.config.rootfs.diff_ids;
    let Some(own_ids) = image.config.rootfs.diff_ids.strip_prefix(&below[..]) else {
        fault!(Usage, "image {} does not stand on {old_name}: its lowest layers are others", args.image);
    };
    let layers = image.layers()?.into_iter().skip(below.len()).map(|(blob, _)| blob);
    let layers = new.layers()?.into_iter().map(|(blob, _)| blob).chain(layers).collect();
    let mut config = image.config.clone();
    config.rootfs.diff_ids = new.config.rootfs.diff_ids.iter().chain(own_ids).cloned().collect();
    config.history = new.config.history.iter().chain(own_history(image, old)).cloned().collect();
    let (mut document, parsed) = store.put_image(&lease, &config.to_bytes()?, layers)?;
    if let (Kind::Manifest(manifest), Kind::Manifest(before)) = (&document.kind, &image.document.kind) {
        let mut manifest = manifest.clone();
        manifest.annotations.clone_from(&before.annotations);
        manifest.annotations.insert(BASE_NAME.into(), new_name.into());
        manifest.annotations.insert(BASE_DIGEST.into(), new.document.digest.to_string());
        let bytes = serde_json::to_vec(&manifest)?;
        document = crate::store::document::Document::parse(bytes, None)?;
    }
    let names = image.names_when_edited(&args.tags);
    store.add_document(&lease, &document, Some(parsed), &names)
}

/// The entries that the image added to its base's; where they cannot be told apart, those of its own layers.
fn own_history<'a>(image: &'a Image, old: &Image) -> impl Iterator<Item = &'a History> {
    let (all, base) = (&image.config.history, &old.config.history);
    let layers = |list: &[History]| list.iter().filter(|entry| !entry.empty_layer).count();
    let known = base.len() <= all.len() && layers(&all[..base.len()]) == old.config.rootfs.diff_ids.len();
    let skip = if known { base.len() } else { all.len() };
    all.iter().skip(skip)
}
