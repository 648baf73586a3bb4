//! OCI bundles made from images: a rootfs mounted from shared layers, and a config.json.

pub mod base;
pub mod config;
pub mod record;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Gid, Uid, fchown};
use serde::{Deserialize, Serialize};
use sys::path::Root;

use crate::layer::extracted::Layers;
use crate::layer::flat;
use crate::layer::owner::Maps;
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
    /// What its rootfs is.
    pub form: Form,
}

/// What a bundle's rootfs is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Form {
    /// The owners that the files have on the host, those of a container in a user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maps: Option<Maps>,
    /// No directory of a layer replaced a link to one: the layers are extracted for this bundle alone, into `lower`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_links: bool,
    /// No mount: all files are in the directory itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
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
    let rootfs = RootFs::at(&record.bundle);
    let (own, form) = (request.image.layers()?, &record.form);
    let how = (form.keep_links, request.max_layer);
    let lowers = match (form.plain, form.keep_links) {
        (true, _) | (_, true) => Vec::new(),
        _ => layers.ensure(store, &own, request.max_layer)?,
    };
    record::write(&record.bundle.join(record::NOTE), record, request.lasting)?;
    if form.plain {
        flat::extract(store, &own, &rootfs.target, how)?;
    } else {
        let lowers = match form.keep_links {
            true => {
                flat::extract(store, &own, &record.own_tree(), how)?;
                vec![record.own_tree()]
            }
            false => lowers,
        };
        rootfs.create(&lowers, form.maps.as_ref())?;
        match &form.maps {
            Some(maps) => rootfs.mount_shifted(layers, &lowers, maps)?,
            None => rootfs.mount(layers, &lowers, false)?,
        }
    }
    let root = Root::open(&rootfs.target).context("open the rootfs")?;
    let mut config = config::generate(request.image, &root, request.args, &record.name)?;
    let cwd = config["process"]["cwd"].as_str().unwrap_or("/").to_owned();
    // The runtime would make it too, but as whoever the process is; docker's is root's.
    root.mkdir_all(Path::new(&cwd), Mode::from_bits_truncate(0o755))
        .with_context(|| format!("make the working directory {}", cwd.escape_debug()))?;
    if form.plain {
        config::make_rootless(&mut config, &Maps::own()?);
    }
    if let Some(maps) = &form.maps {
        config::map_ids(&mut config, maps);
        own_new(&root, Path::new(&cwd), maps)?;
    }
    record::write(&record.bundle.join("config.json"), &config, request.lasting)?;
    store.used(&request.image.id);
    record.settle(store, layers, request.lasting)
}

/// Gives the directories on the way to `path` that root has just made to the container's root. All others have owners of
/// the maps.
fn own_new(root: &Root, path: &Path, maps: &Maps) -> Result<()> {
    let owner = maps.outside(0, 0);
    for above in path.ancestors().filter(|above| above.file_name().is_some()) {
        let fd = root.open_in(above, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        if fstat(&fd)?.st_uid == 0 {
            fchown(&fd, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))
                .with_context(|| format!("chown {}", above.display()))?;
        }
    }
    Ok(())
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
    let rootfs = RootFs::at(&record.bundle);
    if record.form.plain {
        return Ok(rootfs.target);
    }
    // Two overlays over the same changes would not see each other's.
    let bundle = File::open(&record.bundle).with_context(|| format!("open {}", record.bundle.display()))?;
    let _lock = Flock::lock(bundle, FlockArg::LockExclusive)
        .map_err(|(_, err)| err)
        .with_context(|| format!("lock {}", record.bundle.display()))?;
    let lowers = match record.directories(&layers) {
        Some(lowers) => lowers,
        // Extracted anew, after a crash of the machine or by a curious hand.
        None => layers.ensure(store, &store.image(&record.image_id.to_string())?.layers()?, None)?,
    };
    match &record.form.maps {
        Some(maps) => rootfs.mount_shifted(&layers, &lowers, maps)?,
        None => rootfs.mount(&layers, &lowers, false)?,
    }
    Ok(rootfs.target)
}

/// Unmounts, removes the directory and lets the layers go. Nothing there is fine, and so is an empty directory: all there
/// is where a maker was killed before it wrote the record.
///
/// # Errors
/// Something cannot be removed; running it again goes on.
pub fn remove(store: &Store, dir: &Path) -> Result<()> {
    let dir = std::path::absolute(dir).context("bundle directory")?;
    match record::by_directory(store, &dir)? {
        Some(record) => record::dissolve(store, &record),
        None => match fs::remove_dir(&dir).map_err(|err| err.kind()) {
            Ok(()) | Err(ErrorKind::NotFound) => Ok(()),
            Err(_) => fault!(WrongState, "{} is no bundle of this store", dir.display()),
        },
    }
}
