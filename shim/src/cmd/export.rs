//! `shim export`

use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use contracts::exit::Exit;

use crate::cli::ExportFlags;
use crate::container::{Store, again, rootfs};
use crate::tools;

pub fn run(store: &Store, flags: &ExportFlags) -> Result<Exit> {
    let id = store.resolve(&flags.container)?;
    let bundle = store.bundle(&id);
    let (lock, status) = again::lock_settled(store, &id)?;
    let shown = rootfs::show(&status, &bundle)?;
    let out = match &flags.output {
        Some(path) => Stdio::from(File::create(path).with_context(|| format!("create {}", path.display()))?),
        None if io::stdout().is_terminal() => {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        }
        None => Stdio::inherit(),
    };
    let status = tools::imgtool("export")
        .arg(&bundle)
        .stdin(Stdio::null())
        .stdout(out)
        .status()
        .context("execute imgtool")?;
    drop(shown);
    drop(lock);
    // It has said on our stderr what was wrong.
    Ok(if status.success() { Exit::Ok } else { Exit::Failed })
}
