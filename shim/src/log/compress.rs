//! Rotated files are compressed by a process of their own: the supervisor neither waits for it nor holds its memory.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use flate2::{Compression, GzBuilder};

/// The compressed form of a file.
pub fn packed(path: &Path) -> PathBuf {
    with(path, ".gz")
}

/// Where it is made.
pub fn unfinished(log: &Path) -> PathBuf {
    with(log, ".packing")
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Starts the compression of `from` into `to`; the pid of who does it. The file is opened here: by the time the other
/// process runs, its name may be the next file's.
pub fn start(from: &Path, to: &Path) -> Result<i32> {
    let source = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("compress-log").arg(to);
    command.stdin(source).stdout(Stdio::null()).stderr(Stdio::null());
    let child = sys::command::with_clean_signals(&mut command).spawn().context("execute the compression")?;
    Ok(i32::try_from(child.id())?)
}

/// `shim compress-log TO`, with the file as stdin. Its inode goes into the header: a follower of the log knows it again.
pub fn main(to: &Path) -> Exit {
    match io::stdin().as_fd().try_clone_to_owned().map(File::from).map(|source| compress(source, to)) {
        Ok(Ok(())) => Exit::Ok,
        _ => {
            let _ = fs::remove_file(to);
            Exit::Failed
        }
    }
}

/// Compresses what `source` holds into a new file.
pub fn compress(mut source: File, to: &Path) -> Result<()> {
    let inode = source.metadata()?.ino();
    let target = File::options().write(true).create(true).truncate(true).mode(0o640).open(to);
    let target = target.with_context(|| format!("make {}", to.display()))?;
    let mut packer = GzBuilder::new().comment(inode.to_string()).write(target, Compression::default());
    io::copy(&mut source, &mut packer).with_context(|| format!("compress into {}", to.display()))?;
    let target = packer.finish()?;
    // The plain file goes next: this one must be on the disk before.
    target.sync_data().with_context(|| format!("write {}", to.display()))
}
