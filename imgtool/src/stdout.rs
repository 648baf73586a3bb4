//! The one door to stdout, which carries data only.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};

/// Writes `text` as it is.
///
/// # Errors
/// Whatever stdout says; a reader that went away is `BrokenPipe`, which `report::finish` takes as success.
pub fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("write to stdout")
}

/// Writes one line.
///
/// # Errors
/// As [`write`].
pub fn line(text: impl AsRef<str>) -> Result<()> {
    write(&format!("{}\n", text.as_ref()))
}
