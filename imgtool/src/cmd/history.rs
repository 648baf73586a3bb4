//! `imgtool history IMAGE`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::output::human;
use contracts::output::template::Format;
use serde_json::{Value, json};

use super::{images, open_store};
use crate::stdout;
use crate::store::config::History;
use crate::store::image::Image;

/// Flags of `history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Columns for --format: .ID .CreatedAt .CreatedSince .CreatedBy .Size .Comment")]
pub struct Args {
    /// A name, an id or the beginning of one
    image: String,
    /// Whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Ids only
    #[arg(short, long)]
    quiet: bool,
    /// Sizes in words (default) or in bytes
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true")]
    human: bool,
    /// `json`, a Go template, or `table TEMPLATE`
    #[arg(long)]
    format: Option<String>,
}

/// # Errors
/// No such image; a wrong template.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let image = store.image(&args.image)?;
    let rows = rows(&image, args);
    if args.quiet {
        for row in &rows {
            stdout::line(row["ID"].as_str().unwrap_or_default())?;
        }
        return Ok(Exit::Ok);
    }
    let columns = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
    let format = Format::parse(args.format.as_deref(), columns)?;
    stdout::write(&format.render(&[("ID", "IMAGE"), ("CreatedSince", "CREATED")], &rows)?)?;
    Ok(Exit::Ok)
}

/// Newest first. Only the top has an id: the steps below it are no images of their own.
fn rows(image: &Image, args: &Args) -> Vec<Value> {
    let now = jiff::Timestamp::now();
    let mut sizes = image.manifest.layers.iter().map(|layer| layer.size);
    let mut steps: Vec<(History, u64)> = Vec::new();
    for step in &image.config.history {
        let size = if step.empty_layer { 0 } else { sizes.next().unwrap_or_default() };
        steps.push((step.clone(), size));
    }
    // Layers that no history tells of still take space.
    steps.extend(sizes.map(|size| (History::default(), size)));
    let id = if args.no_trunc { image.id.to_string() } else { image.id.short().into() };
    let ids = std::iter::once(id).chain(std::iter::repeat("<missing>".into()));
    let row = |((step, size), id): ((History, u64), String)| {
        let created = step.created.as_deref();
        json!({
            "ID": id,
            "CreatedAt": created.unwrap_or("N/A"),
            "CreatedSince": images::since(created, now),
            "CreatedBy": shorten(step.created_by.unwrap_or_default().replace(['\t', '\n'], " "), args.no_trunc),
            "Size": if args.human { human::size(size) } else { size.to_string() },
            "Comment": step.comment.unwrap_or_default(),
        })
    };
    steps.into_iter().rev().zip(ids).map(row).collect()
}

fn shorten(text: String, whole: bool) -> String {
    if whole || text.chars().count() <= 45 {
        return text;
    }
    text.chars().take(44).chain(['…']).collect()
}
