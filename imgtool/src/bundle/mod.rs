//! OCI bundles made from images: a rootfs mounted from shared layers, and a config.json.

pub mod config;
pub mod record;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::sys::stat::Mode;
use sys::path::Root;

use crate::layer::extracted::Layers;
use crate::rootfs::RootFs;
use crate::store::Store;
use crate::store::image::Image;
use record::Record;

/// What to make.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where; must not exist or be empty.
    pub dir: &'a Path,
    /// The record's name; else one made from the directory.
    pub name: Option<&'a str>,
    /// The image as asked for.
    pub image: &'a Image,
    /// Replaces the image's Cmd where not empty.
    pub args: &'a [String],
    /// Bound on a layer's content in bytes.
    pub max_layer: Option<u64>,
    /// It is to outlive a power cut.
    pub lasting: bool,
}

/// Makes a bundle and returns its record. On failure nothing is left.
///
/// # Errors
/// The directory or the name is taken; a layer is damaged; the image names an unknown user.
pub fn make(store: &Store, request: &Request<'_>) -> Result<Record> {
    let layers = Layers::open(store.paths())?;
    record::sweep(store)?;
    let dir = std::path::absolute(request.dir).context("bundle directory")?;
    let fresh = claim_directory(&dir)?;
    let made = Record::new(&dir, request)
        .and_then(|record| record.reserve(store, &layers).map(|()| record))
        .and_then(|record| match fill(store, &layers, &record, request) {
            Ok(()) => Ok(record),
            Err(err) => {
                // Best effort: the next command sweeps what stays.
                let _ = record::dissolve(store, &record);
                Err(err)
            }
        });
    if made.is_err() && fresh {
        let _ = fs::remove_dir(&dir);
    }
    made.with_context(|| format!("bundle {}", dir.display()))
}

fn fill(store: &Store, layers: &Layers, record: &Record, request: &Request<'_>) -> Result<()> {
    let lowers = layers.ensure(store, &request.image.layers()?, request.max_layer)?;
    let rootfs = RootFs::at(&record.bundle);
    record::write(&record.bundle.join(record::NOTE), record, request.lasting)?;
    rootfs.create(&lowers)?;
    rootfs.mount(layers, &lowers, false)?;
    let root = Root::open(&rootfs.target).context("open the rootfs")?;
    let config = config::generate(request.image, &root, request.args, &record.name)?;
    let cwd = config["process"]["cwd"].as_str().unwrap_or("/");
    // The runtime would make it too, but as whoever the process is; docker's is root's.
    root.mkdir_all(Path::new(cwd), Mode::from_bits_truncate(0o755))
        .with_context(|| format!("make the working directory {}", cwd.escape_debug()))?;
    record::write(&record.bundle.join("config.json"), &config, request.lasting)?;
    store.used(&request.image.id);
    record.settle(store, layers, request.lasting)
}

/// Says whether the directory was made by us.
fn claim_directory(dir: &Path) -> Result<bool> {
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
            if entries.next().is_some() {
                fault!(Exists, "{} exists and is not empty", dir.display());
            }
            Ok(false)
        }
        Err(err) => Err(err).with_context(|| format!("make {}", dir.display())),
    }
}

/// Mounts an existing bundle's rootfs again.
///
/// # Errors
/// No bundle there; a layer's blob is gone.
pub fn mount(store: &Store, dir: &Path) -> Result<PathBuf> {
    let record = Record::of(dir)?;
    let layers = Layers::open(store.paths())?;
    let lowers = match record.directories(&layers) {
        Some(lowers) => lowers,
        // Extracted anew, after a crash of the machine or by a curious hand.
        None => layers.ensure(store, &store.image(&record.image_id.to_string())?.layers()?, None)?,
    };
    let rootfs = RootFs::at(&record.bundle);
    rootfs.mount(&layers, &lowers, false)?;
    Ok(rootfs.target)
}

/// Unmounts, removes the directory and lets the layers go. Nothing there is fine.
///
/// # Errors
/// Something cannot be removed; running it again goes on.
pub fn remove(store: &Store, dir: &Path) -> Result<()> {
    let dir = std::path::absolute(dir).context("bundle directory")?;
    match record::by_directory(store, &dir)? {
        Some(record) => record::dissolve(store, &record),
        None if !dir.exists() => Ok(()),
        None => fault!(WrongState, "{} is no bundle of this store", dir.display()),
    }
}
