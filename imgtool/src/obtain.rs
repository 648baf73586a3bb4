//! Getting an image that a command needs: from the store, or from its registry first.

use anyhow::Result;
use clap::ValueEnum;

use crate::store::Store;
use crate::store::document::Platform;
use crate::store::image::Image;

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
pub fn image(store: &Store, name: &str, platform: Option<&Platform>, _policy: Policy) -> Result<Image> {
    match platform {
        Some(platform) => store.image_for(name, platform, true),
        None => store.image(name),
    }
}
