//! Getting an image that a command needs: from the store, or from its registry first.

use anyhow::Result;
use clap::ValueEnum;
use contracts::fault::Kind;

use crate::registry::Flags;
use crate::store::Store;
use crate::store::document::Platform;
use crate::store::image::Image;
use crate::transfer::pull::fetch;

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

/// The image `name` for `platform` (this machine's where `None`).
///
/// # Errors
/// No such image here or there; the registry fails.
pub fn image(store: &Store, name: &str, platform: Option<&Platform>, policy: Policy) -> Result<Image> {
    image_by(store, name, platform, policy, &Flags::usual())
}

/// [`image`] with the flags of this command for its registry.
///
/// # Errors
/// As [`image`].
pub fn image_by(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
    policy: Policy,
    flags: &Flags,
) -> Result<Image> {
    let here = || match platform {
        Some(platform) => store.image_for(name, platform, true),
        None => store.image(name),
    };
    if policy != Policy::Always {
        match here() {
            Err(err) if policy == Policy::Missing && Kind::of(&err) == Some(Kind::NotFound) => {}
            other => return other,
        }
    }
    // The beginning of an id is a valid name too; whoever wrote one wants what is here.
    if name.starts_with("sha256:") {
        return here();
    }
    // Words beside the data, as docker run says them.
    if policy == Policy::Missing {
        contracts::report::say(format_args!("Unable to find image '{name}' locally"));
    }
    fetch(store, name, platform, flags)?;
    here()
}
