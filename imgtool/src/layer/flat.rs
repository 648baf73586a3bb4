//! All layers of an image in one directory, as an ordinary tree without overlayfs.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::apply::{Deletions, Options};
use super::extracted::extract_into;
use super::read::Limits;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::document::Descriptor;

/// Extracts `layers`, lowest first, into the directory `path`, which it makes. With `keep_links`, a directory of a layer does
/// not replace a link to one. `most` bounds the content of each layer in bytes; `None` bounds it by its compressed size.
///
/// # Errors
/// A blob is missing or damaged, an archive is hostile, the disk is full.
pub fn extract(
    store: &Store,
    layers: &[(Descriptor, Digest)],
    path: &Path,
    (keep_links, most): (bool, Option<u64>),
) -> Result<()> {
    fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
    let directory = File::open(path).with_context(|| format!("open {}", path.display()))?;
    for (blob, diff_id) in layers {
        let limits = Limits::for_blob(blob.size);
        let limits = Limits { bytes: most.unwrap_or(limits.bytes), ..limits };
        let options = Options { keep_links, ..Options::new(Deletions::Done, limits) };
        let source = store.open_blob(&blob.digest)?;
        // Of its own for the umask, as `apply` says.
        let extracted = std::thread::scope(|scope| {
            let work = || extract_into(source, &directory, options, diff_id);
            scope.spawn(work).join().unwrap_or_else(|_| anyhow::bail!("an extracting thread ended badly"))
        });
        let bytes = extracted.with_context(|| format!("layer {}", diff_id.short()))?;
        store.note_unpacked(&blob.digest, bytes);
    }
    Ok(())
}
