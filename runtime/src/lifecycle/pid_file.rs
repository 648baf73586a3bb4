//! `--pid-file`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes the pid so that a watcher of the file never sees half of it.
///
/// # Errors
/// Naming the file.
pub fn write(path: &Path, pid: i32) -> Result<()> {
    let context = || format!("write pid file {}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = fs::write(&temporary, pid.to_string()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(context)
}
