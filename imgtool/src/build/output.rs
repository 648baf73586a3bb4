//! Where a finished build goes other than into the store: a directory or an archive of its files.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::Built;
use super::work::Work;
use crate::layer::extracted::Layers;
use crate::layer::read::Limits;
use crate::layer::{apply, diff};
use crate::place::archive::{self, Item};
use crate::reference::Reference;
use crate::rootfs::RootFs;
use crate::store::Store;

/// `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The files, into a directory.
    Local(String),
    /// The files, as an archive; `-` is stdout.
    Tar(String),
    /// The image, as an archive in docker's form too or in OCI's alone; `-` is stdout.
    Image {
        /// Docker's files beside OCI's.
        docker: bool,
        /// Where.
        dest: String,
    },
}

impl std::str::FromStr for Output {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if !text.contains('=') {
            return Ok(if text == "-" { Self::Tar("-".into()) } else { Self::Local(text.into()) });
        }
        let (mut kind, mut dest) = (None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", value)) => kind = Some(value),
                Some(("dest", value)) => dest = Some(value.to_owned()),
                _ => bail!("--output: unknown field {field}"),
            }
        }
        match (kind, dest) {
            (Some("local"), Some(dest)) => Ok(Self::Local(dest)),
            (Some("tar"), dest) => Ok(Self::Tar(dest.unwrap_or_else(|| "-".into()))),
            (Some("oci"), dest) => {
                Ok(Self::Image { docker: false, dest: dest.unwrap_or_else(|| "-".into()) })
            }
            (Some("docker"), dest) => {
                Ok(Self::Image { docker: true, dest: dest.unwrap_or_else(|| "-".into()) })
            }
            (Some("local"), None) => bail!("--output type=local needs dest="),
            (Some(other), _) => bail!("--output type={other} is not known (local, tar, oci, docker)"),
            (None, _) => bail!("--output needs type="),
        }
    }
}

/// Writes the files of `built`, or the image under `names`.
///
/// # Errors
/// No space; the destination cannot be written.
pub fn write(store: &Store, built: &Built, output: &Output, names: &[Reference]) -> Result<()> {
    if let Output::Image { docker, dest } = output {
        let document = built.document(store)?;
        let items = [Item { document, names: names.to_vec() }];
        let write = |out: &mut dyn Write| archive::write(store, &items, *docker, out);
        if dest == "-" {
            let mut out = BufWriter::with_capacity(256 << 10, io::stdout().lock());
            write(&mut out)?;
            return out.flush().context("write to stdout");
        }
        return crate::cmd::save::to_file(Path::new(dest), write);
    }
    let layers = Layers::open(store.paths())?;
    let lease = store.lease()?;
    lease.hold(built.layers().iter().map(|(_, diff_id)| diff_id))?;
    let lowers = layers.ensure(store, built.layers(), None)?;
    let work = Work::new(store.paths())?;
    let rootfs = RootFs::at(work.path());
    rootfs.create(&lowers)?;
    rootfs.mount(&layers, &lowers, true)?;
    let root = File::open(&rootfs.target)?;
    match output {
        Output::Image { .. } => Ok(()),
        Output::Tar(dest) if dest == "-" => files(&root, io::stdout().lock()),
        Output::Tar(dest) => files(&root, File::create(dest).with_context(|| format!("create {dest}"))?),
        Output::Local(dest) => local(&root, Path::new(dest)),
    }
}

fn files(root: &File, output: impl Write) -> Result<()> {
    let output = BufWriter::with_capacity(256 << 10, output);
    let (output, _) = diff::write(root.as_fd(), &diff::Options::default(), output)?;
    output.into_inner().map_err(io::IntoInnerError::into_error)?.flush()?;
    Ok(())
}

/// Through an archive in a pipe: the one place that knows how to make files safely.
fn local(root: &File, dest: &Path) -> Result<()> {
    fs::create_dir_all(dest).with_context(|| format!("make {}", dest.display()))?;
    let target = File::open(dest)?;
    let (reader, writer) = io::pipe().context("make a pipe")?;
    let owner = Some((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    let options = apply::Options { layer: false, owner, limits: Limits::default() };
    std::thread::scope(|scope| {
        let unpack = scope.spawn(move || {
            apply::apply(
                io::BufReader::with_capacity(128 << 10, reader),
                target.as_fd().try_clone_to_owned()?,
                options,
            )
        });
        let written = files(root, writer);
        unpack.join().map_err(|_| anyhow::anyhow!("the unpacking thread ended badly"))??;
        written
    })
    .with_context(|| format!("write {}", dest.display()))
}
