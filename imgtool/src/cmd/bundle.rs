//! `imgtool bundle`: an OCI bundle from an image.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use contracts::bundle::Report;
use contracts::exit::Exit;

use crate::bundle::{self, Form, Request};
use crate::layer::owner::{Maps, Range};
use crate::obtain::{self, Policy, Wish};
use crate::registry::Flags;
use crate::stdout;
use crate::store::document::Platform;
use crate::store::image::Image;

/// Make an OCI bundle from an image: DIR/config.json and DIR/rootfs, mounted from shared layers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  imgtool bundle web /tmp/web | runtime run --bundle - web1\n  \
                        imgtool bundle alpine b -- sh -c 'echo hello'\n  imgtool unbundle b\n  \
                        imgtool bundle --uid-map 0:100000:65536 web b     imgtool bundle --rootless web b")]
pub struct Args {
    /// The image's name or id
    image: String,
    /// Where to make the bundle; must not exist or be empty
    dir: PathBuf,
    /// Arguments that replace the image's Cmd
    #[arg(last = true)]
    args: Vec<String>,
    /// Name under which the bundle holds its layers [default: made from DIR]
    #[arg(long)]
    name: Option<String>,
    /// When to ask the registry
    #[arg(long, value_enum, default_value = "missing")]
    pull: Policy,
    /// Platform, where the image has several
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// What to print
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Show what a pull does on the descriptor that is stdin, so that stderr holds the error alone
    #[arg(long)]
    progress_on_stdin: bool,
    /// Do not wait for the disk: a bundle that need not outlive a power cut
    #[arg(long)]
    volatile: bool,
    /// For a container in a user namespace: who owns on the host what belongs to ids of the image
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", help_heading = "Owners and links")]
    uid_map: Vec<Range>,
    /// The same for groups [default: the maps of users]
    #[arg(long, value_name = "CONTAINER:HOST:SIZE", help_heading = "Owners and links")]
    gid_map: Vec<Range>,
    /// All files in DIR/rootfs itself, nothing mounted, and a config.json for `runtime run` by the same ordinary user
    #[arg(long, conflicts_with_all = ["uid_map", "gid_map"], help_heading = "Owners and links")]
    rootless: bool,
    /// Where a layer has a directory and those below it a link to one, keep the link (copies the layers)
    #[arg(long, help_heading = "Owners and links")]
    keep_dirlinks: bool,
    /// Refuse a layer with more bytes of content [default: 250 times its compressed size, at least 1 GiB]
    #[arg(long, value_name = "BYTES")]
    max_layer_size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The directory
    Text,
    /// A report with the image's id and whole config
    Json,
}

impl Args {
    /// Whether the bundle holds a mount, which goes with the last process of its namespace.
    pub const fn mounts(&self) -> bool {
        !self.rootless
    }
}

/// Runs the verb.
///
/// # Errors
/// See [`bundle::make`].
pub fn run(args: &Args) -> Result<Exit> {
    let store = super::open_store()?;
    let image = {
        let _lent = if args.progress_on_stdin { Some(Lent::new()?) } else { None };
        let wish = Wish {
            name: &args.image,
            platform: args.platform.as_ref(),
            policy: args.pull,
            flags: &Flags::usual(),
            unpack: args.max_layer_size.is_none() && !args.rootless && !args.keep_dirlinks,
        };
        obtain::image(&store, &wish)?
    };
    let request = Request {
        dir: &args.dir,
        name: args.name.as_deref(),
        image: &image,
        args: &args.args,
        max_layer: args.max_layer_size,
        lasting: !args.volatile,
        form: Form {
            maps: Maps::from_flags(&args.uid_map, &args.gid_map)?,
            keep_links: args.keep_dirlinks,
            plain: args.rootless,
        },
    };
    let record = bundle::make(&store, &request)?;
    match args.format {
        Format::Text => stdout::line(record.bundle.display().to_string())?,
        Format::Json => {
            let report = report(&record, &image);
            stdout::line(serde_json::to_string(&report).context("encode the report")?)?;
        }
    }
    Ok(Exit::Ok)
}

/// stderr is stdin's file until this is dropped.
struct Lent {
    stderr: OwnedFd,
}

impl Lent {
    fn new() -> Result<Self> {
        let stderr = io::stderr().as_fd().try_clone_to_owned().context("keep stderr")?;
        nix::unistd::dup2_stderr(io::stdin()).context("show progress on stdin")?;
        Ok(Self { stderr })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let _ = nix::unistd::dup2_stderr(&self.stderr);
    }
}

fn report(record: &bundle::record::Record, image: &Image) -> Report {
    Report {
        version: 1,
        bundle: record.bundle.clone(),
        image_id: image.id.to_string(),
        image: record.image.clone(),
        platform: image.config.platform().to_string(),
        config: image.config.config.clone(),
    }
}
