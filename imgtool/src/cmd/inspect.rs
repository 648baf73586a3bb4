//! `imgtool inspect IMAGE...`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::output::template::Template;
use contracts::report;
use serde_json::{Value, json};

use super::open_store;
use crate::reference::Reference;
use crate::stdout;
use crate::store::Store;
use crate::store::document::Platform;
use crate::store::image::Image;

/// Flags of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names, ids or beginnings of ids
    #[arg(required = true)]
    images: Vec<String>,
    /// A Go template, or `json`
    #[arg(short, long)]
    format: Option<String>,
    /// The image of this platform: os/arch[/variant]
    #[arg(long)]
    platform: Option<Platform>,
    /// The manifest as it is, byte for byte
    #[arg(long, conflicts_with_all = ["format", "config"])]
    raw: bool,
    /// The image config as it is, byte for byte
    #[arg(long, conflicts_with = "format")]
    config: bool,
    /// Accepted for docker's sake: everything here is an image
    #[arg(long = "type", hide = true)]
    kind: Option<String>,
}

/// # Errors
/// A wrong template; a missing image (the others are shown all the same).
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let template = args.format.as_deref().filter(|text| *text != "json").map(Template::parse).transpose()?;
    let mut exit = Exit::Ok;
    let mut values = Vec::new();
    for text in &args.images {
        let found = match &args.platform {
            Some(platform) => store.image_for(text, platform, true),
            None => store.image(text),
        };
        let image = match found {
            Ok(image) => image,
            Err(err) => {
                report::print_error("imgtool", &err);
                exit = Exit::from(&err);
                continue;
            }
        };
        if args.raw {
            stdout::write(&String::from_utf8_lossy(&image.document.bytes))?;
        } else if args.config {
            stdout::write(&String::from_utf8_lossy(&image.config_bytes))?;
        } else {
            values.push(describe(&store, &image));
        }
    }
    if args.raw || args.config {
        return Ok(exit);
    }
    match (&template, args.format.as_deref()) {
        (Some(template), _) => {
            for value in &values {
                stdout::line(template.render(value)?)?;
            }
        }
        (None, Some(_)) => stdout::line(serde_json::to_string(&values)?)?,
        (None, None) => stdout::line(serde_json::to_string_pretty(&values)?)?,
    }
    Ok(exit)
}

/// An image in docker's shape, with what OCI knows beside it.
fn describe(store: &Store, image: &Image) -> Value {
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    let config = &image.config;
    let comment = config.history.last().and_then(|step| step.comment.clone()).unwrap_or_default();
    let tags: Vec<Reference> = image.names.iter().filter(|name| name.digest().is_none()).cloned().collect();
    json!({
        "Id": image.id,
        "RepoTags": familiar(&tags),
        "RepoDigests": familiar(&image.repo_digests),
        "Comment": comment,
        "Created": config.created,
        "Author": config.author.clone().unwrap_or_default(),
        "Config": config.config,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": store.unpacked_image(image),
        "RootFS": { "Type": "layers", "Layers": config.rootfs.diff_ids },
        "Descriptor": {
            "mediaType": image.document.media_type,
            "digest": image.document.digest,
            "size": image.document.bytes.len(),
        },
        "Layers": image.manifest.layers.iter().map(|layer| json!({
            "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size,
        })).collect::<Vec<_>>(),
        "Annotations": image.manifest.annotations,
        "History": config.history,
    })
}
