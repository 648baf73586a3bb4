//! Getting an image that a command needs: from the store, or from its registry first.

use anyhow::Result;
use clap::ValueEnum;
use contracts::fault::Kind;

use crate::reference::Reference;
use crate::registry::{Client, Flags};
use crate::store::Store;
use crate::store::document::Platform;
use crate::store::image::Image;
use crate::transfer::progress::Progress;
use crate::transfer::pull::{JOBS, pull};
use crate::transfer::{Options, Platforms};

/// When to ask the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Only for an image that is not here
    Missing,
    /// Every time
    Always,
    /// Never
    Never,
}

/// What a command asks for.
#[derive(Debug)]
pub struct Wish<'a> {
    /// A name, or the beginning of an id.
    pub name: &'a str,
    /// This machine's where `None`.
    pub platform: Option<&'a Platform>,
    /// When to ask the registry.
    pub policy: Policy,
    /// How to speak with it.
    pub flags: &'a Flags,
    /// Extract layers while they come in. Not where the command has its own bounds for them.
    pub unpack: bool,
}

/// The image that is wished.
///
/// # Errors
/// No such image here or there; the registry fails.
pub fn image(store: &Store, wish: &Wish<'_>) -> Result<Image> {
    let name = wish.name;
    let find = |name: &str| match wish.platform {
        Some(platform) => store.image_for(name, platform, true),
        None => store.image(name),
    };
    let here = || find(name);
    if wish.policy != Policy::Always {
        match here() {
            Err(err) if wish.policy == Policy::Missing && Kind::of(&err) == Some(Kind::NotFound) => {}
            other => return other,
        }
    }
    // The beginning of an id is a valid name too; whoever wrote one wants what is here.
    if name.starts_with("sha256:") {
        return here();
    }
    // Words beside the data, as docker run says them.
    if wish.policy == Policy::Missing {
        contracts::report::say(format_args!("Unable to find image '{name}' locally"));
    }
    let pulled = fetch(store, wish)?;
    let as_written = name.parse::<Reference>().is_ok_and(|name| name.or_latest() == pulled);
    if as_written { here() } else { find(&pulled.to_string()) }
}

/// Pulls an image that is not here; the name that it has now.
fn fetch(store: &Store, wish: &Wish<'_>) -> Result<Reference> {
    let client = Client::new(store.paths(), wish.flags)?;
    let listed: Vec<Platform> = wish.platform.cloned().into_iter().collect();
    let options = Options {
        platforms: Platforms::from_flags(&listed, false),
        jobs: JOBS,
        progress: Progress::new(false),
        repack: None,
    };
    client.in_order(wish.name, |name| {
        let name = name.clone().or_latest();
        pull(store, &client, &name, &options, wish.unpack)?;
        Ok(name)
    })
}
