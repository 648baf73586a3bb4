//! `imgtool images [REPOSITORY[:TAG]]`

pub mod filter;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::output::human;
use contracts::output::template::Format;
use serde_json::{Value, json};

use self::filter::Filters;
use super::open_store;
use crate::stdout;
use crate::store::Store;
use crate::store::image::Image;

const NONE: &str = "<none>";

/// Flags of `images`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Columns for --format: .Repository .Tag .ID .Digest .CreatedAt .CreatedSince .Size .Platform\n\
                        Filters: dangling=true|false, reference=PATTERN, label=KEY[=VALUE], before=IMAGE, \
                        since=IMAGE, until=24h|2026-01-31"
)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of the command line
pub struct Args {
    /// Only images of this repository, or of this repository and tag; `*` stands for anything
    repository: Option<String>,
    /// Also images without a name (shown anyway; accepted for docker's sake)
    #[arg(short, long)]
    all: bool,
    /// Ids only, each once
    #[arg(short, long)]
    quiet: bool,
    /// Whole ids
    #[arg(long)]
    no_trunc: bool,
    /// A column with the digests that registries know
    #[arg(long)]
    digests: bool,
    /// `json`, a Go template, or `table TEMPLATE`
    #[arg(long)]
    format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Only images that match; of several, all must
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<String>,
}

/// # Errors
/// A wrong filter or template; the store is unreadable.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let mut filters = Filters::parse(&args.filters, &store)?;
    if let Some(pattern) = &args.repository {
        filters.references.push(pattern.clone());
    }
    let images: Vec<Image> = store.images()?.into_iter().filter(|image| filters.matches(image)).collect();
    if args.quiet && args.format.is_none() {
        let mut seen = Vec::new();
        for image in &images {
            if !seen.contains(&&image.id) {
                seen.push(&image.id);
                stdout::line(id(image, args.no_trunc))?;
            }
        }
        return Ok(Exit::Ok);
    }
    let columns = if args.digests {
        "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    } else {
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    };
    let flag = if args.json { Some("json") } else { args.format.as_deref() };
    let format = Format::parse(flag, columns)?;
    let now = jiff::Timestamp::now();
    let rows: Vec<Value> = images.iter().map(|image| row(&store, image, args.no_trunc, now)).collect();
    stdout::write(&format.render(&[("ID", "IMAGE ID"), ("CreatedSince", "CREATED")], &rows)?)?;
    Ok(Exit::Ok)
}

fn id(image: &Image, whole: bool) -> String {
    if whole { image.id.to_string() } else { image.id.short().to_owned() }
}

fn row(store: &Store, image: &Image, whole_id: bool, now: jiff::Timestamp) -> Value {
    let known = image.name.as_ref().map_or(image.repo_digests.first(), |name| {
        image.repo_digests.iter().find(|known| known.repository() == name.repository())
    });
    let repository =
        image.name.as_ref().or(known).map_or(NONE.into(), crate::reference::Reference::familiar_name);
    let tag = image.name.as_ref().and_then(|name| name.tag()).unwrap_or(NONE);
    let digest = known.and_then(|known| known.digest()).map_or(NONE.into(), ToString::to_string);
    let size = store.unpacked_image(image);
    json!({
        "ID": id(image, whole_id),
        "Repository": repository,
        "Tag": tag,
        "Digest": digest,
        "CreatedAt": image.config.created.clone().unwrap_or_else(|| "N/A".into()),
        "CreatedSince": since(image.config.created.as_deref(), now),
        "Size": human::size(size),
        "SizeBytes": size,
        "Platform": image.config.platform().to_string(),
    })
}

/// `2 weeks ago`; `N/A` where the image does not tell.
pub(super) fn since(created: Option<&str>, now: jiff::Timestamp) -> String {
    let Some(time) = created.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "N/A".into();
    };
    let seconds = u64::try_from(now.as_second() - time.as_second()).unwrap_or_default();
    format!("{} ago", human::duration(seconds))
}
