//! A container's files are unmounted: the root file system and what is mounted beside it.

use std::path::Path;

use anyhow::Result;

use super::{image_mounts, shared_memory, subpaths};
use crate::tools;

/// `imgtool umount`, and the rest. Idempotent.
pub fn unmount(bundle: &Path) -> Result<()> {
    shared_memory::remove(bundle)?;
    subpaths::remove(bundle)?;
    image_mounts::unmount(bundle)?;
    if !tools::is_mounted(bundle) {
        return Ok(());
    }
    tools::run(tools::imgtool("umount").arg(bundle)).map(drop)
}
