//! `shim volume export` and `shim volume import`: a volume's files as a tar, whatever is mounted as the volume.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contracts::exit::Exit;

use crate::cli::{VolumeExportFlags, VolumeImportFlags};
use crate::container::Store;
use crate::copy::archive;
use crate::copy::owners::Owners;
use crate::migrate::Recompress;
use crate::volume;

pub fn export(store: &Store, flags: &VolumeExportFlags) -> Result<Exit> {
    let what = || format!("export volume {}", flags.volume);
    volume::with_files(store, &flags.volume, |files| {
        let out = match &flags.output {
            Some(path) => File::create(path).with_context(|| format!("create {}", path.display()))?,
            None if io::stdout().is_terminal() => {
                bail!("cowardly refusing to write a tar to a terminal. Use the -o flag or redirect")
            }
            None => File::from(io::stdout().as_fd().try_clone_to_owned()?),
        };
        let mut out = BufWriter::with_capacity(64 << 10, out);
        archive::pack(files, Path::new("/"), (false, Owners::Kept), &mut out).with_context(what)?;
        out.flush().with_context(what)
    })?;
    Ok(Exit::Ok)
}

pub fn import(store: &Store, flags: &VolumeImportFlags) -> Result<Exit> {
    let what = || format!("import {} into volume {}", flags.source, flags.volume);
    volume::with_files(store, &flags.volume, |files| {
        let input = match flags.source.as_str() {
            "-" => File::from(io::stdin().as_fd().try_clone_to_owned()?),
            path => File::open(path).with_context(|| format!("open {path}"))?,
        };
        Recompress::unpack(input, files).with_context(what)
    })?;
    Ok(Exit::Ok)
}
