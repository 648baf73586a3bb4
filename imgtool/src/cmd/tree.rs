//! `imgtool tree IMAGE`: its layers, and which images end at each of them.

use std::fmt::Write as _;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::output::human;

use super::open_store;
use crate::reference::Reference;
use crate::stdout;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::image::Image;

/// Flags of `tree`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Sizes are those of the unpacked layers. Each layer is shown with the images whose topmost it is.\n\
                        Example: imgtool tree --whatrequires debian"
)]
pub struct Args {
    /// A name, an id or the beginning of one
    image: String,
    /// Show the images that stand on this one instead of its own layers
    #[arg(long)]
    whatrequires: bool,
}

/// # Errors
/// No such image; the store cannot be read.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let image = store.image(&args.image)?;
    let known = Known { images: store.images()?, store: &store };
    let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    let mut text = format!(
        "Image ID: {}\nTags:     [{}]\nSize:     {}\nImage Layers\n",
        image.id.short(),
        names.join(" "),
        human::size(store.unpacked_image(&image))
    );
    let layers = &image.config.rootfs.diff_ids;
    if args.whatrequires {
        let (top, below) = layers.split_last().map_or((None, &layers[..]), |(top, below)| (Some(top), below));
        if let Some(top) = top {
            known.above(below, top, (true, ""), &mut text);
        }
    } else {
        for count in 1..=layers.len() {
            let mark = if count == layers.len() { "└──" } else { "├──" };
            let _ = writeln!(text, "{mark} {}", known.layer(&layers[..count]));
        }
    }
    stdout::write(&text)?;
    Ok(Exit::Ok)
}

/// The images of the store, one for each name.
struct Known<'a> {
    images: Vec<Image>,
    store: &'a Store,
}

impl Known<'_> {
    /// The topmost of `layers`: what it is and whose topmost it is, too.
    fn layer(&self, layers: &[Digest]) -> String {
        let Some(id) = layers.last() else { return String::new() };
        let at = layers.len() - 1;
        let has = |image: &&Image| image.config.rootfs.diff_ids.starts_with(layers);
        let blob = self.images.iter().find(has).and_then(|image| image.manifest.layers.get(at));
        let size = blob.map_or(0, |blob| self.store.unpacked_size(blob));
        let mut line = format!("ID: {} Size: {}", id.short(), human::size(size));
        let ends = self.images.iter().filter(|image| image.config.rootfs.diff_ids == layers);
        let mut names: Vec<String> = ends
            .map(|image| image.name.as_ref().map_or_else(|| image.title(), Reference::familiar))
            .collect();
        names.sort();
        names.dedup();
        if !names.is_empty() {
            let _ = write!(line, " Top Layer of: [{}]", names.join(" "));
        }
        line
    }

    /// `top` on the layers `below`, and all that stands on it; `last` of its siblings or not.
    fn above(&self, below: &[Digest], top: &Digest, (last, margin): (bool, &str), text: &mut String) {
        let layers: Vec<Digest> = below.iter().chain([top]).cloned().collect();
        let _ = writeln!(text, "{margin}{} {}", if last { "└──" } else { "├──" }, self.layer(&layers));
        let all = self.images.iter().map(|image| &image.config.rootfs.diff_ids);
        let mut next: Vec<&Digest> =
            all.filter(|ids| ids.starts_with(&layers)).filter_map(|ids| ids.get(layers.len())).collect();
        next.sort();
        next.dedup();
        let margin = format!("{margin}{}", if last { "    " } else { "│   " });
        for (at, child) in next.iter().enumerate() {
            self.above(&layers, child, (at + 1 == next.len(), &margin), text);
        }
    }
}
