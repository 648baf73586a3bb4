//! `imgtool pull NAME...`

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use super::open_store;
use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::stdout;
use crate::store::Store;
use crate::store::document::Platform;
use crate::transfer::progress::Progress;
use crate::transfer::pull::{JOBS, pull};
use crate::transfer::{Options, Platforms};

/// Flags of `pull`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Layers of images for this machine are extracted while they come in. A broken download is gone on with by the \
                  next pull. Prints the full name of what was pulled."
)]
pub struct Args {
    /// What to pull: NAME, NAME:TAG, NAME@DIGEST
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Every tag of the repository
    #[arg(short, long)]
    all_tags: bool,
    /// The image for these platforms (os/arch[/variant], separated by commas) instead of this machine's
    #[arg(long, value_delimiter = ',')]
    platform: Vec<Platform>,
    /// The images for all platforms
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Only store the blobs; the first bundle extracts the layers
    #[arg(long)]
    no_unpack: bool,
    /// No progress and no words
    #[arg(short, long)]
    quiet: bool,
    /// Blobs at a time
    #[arg(short, long, default_value_t = JOBS)]
    jobs: usize,
    #[command(flatten)]
    registry: Flags,
}

/// # Errors
/// No such image; the registry fails; no space.
pub fn run(args: &Args) -> Result<Exit> {
    let store = open_store()?;
    let client = Client::new(store.paths(), &args.registry)?;
    for written in &args.names {
        let name = client.parse(written)?;
        if !args.all_tags {
            if name.tag().is_none() && name.digest().is_none() {
                say(args, "Using default tag: latest");
            }
            one(&store, &client, &name.or_latest(), args)?;
            continue;
        }
        if name.tag().is_some() || name.digest().is_some() {
            fault!(Usage, "a tag cannot be used with --all-tags: {written}");
        }
        for tag in client.repository(&name, false)?.tags()? {
            one(&store, &client, &format!("{name}:{tag}").parse()?, args)?;
        }
    }
    Ok(Exit::Ok)
}

fn one(store: &Store, client: &Client, name: &Reference, args: &Args) -> Result<()> {
    say(args, &format!("{}: Pulling from {}", name.manifest_name(), name.path()));
    let options = Options {
        platforms: Platforms::from_flags(&args.platform, args.all_platforms),
        jobs: args.jobs,
        progress: Progress::new(args.quiet),
    };
    let pulled = pull(store, client, name, &options, !args.no_unpack)?;
    let word = if pulled.up_to_date { "Image is up to date for" } else { "Downloaded newer image for" };
    say(args, &format!("Digest: {}", pulled.moved.asked.digest));
    say(args, &format!("Status: {word} {}", name.familiar()));
    stdout::line(name.to_string())
}

fn say(args: &Args, text: &str) {
    if !args.quiet {
        // Words beside the data: a closed stderr is no reason to stop.
        contracts::report::say(format_args!("{text}"));
    }
}
