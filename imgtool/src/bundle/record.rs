//! `STORE/bundles/<name>.json`: which layers a bundle holds. Written before the first layer is looked for, removed
//! after everything else.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::process::Process;
use contracts::{atomic, fault, name};
use serde::{Deserialize, Serialize};

use super::{Form, Request};
use crate::layer::extracted::Layers;
use crate::layer::owner::Owners;
use crate::rootfs::{RootFs, shift};
use crate::store::Store;
use crate::store::digest::Digest;

/// The copy of the record inside the bundle, by which `mount` knows its layers.
pub const NOTE: &str = "bundle.json";

/// The directory beside the records with a file named as each half-made bundle.
const MAKING: &str = "making";

/// What a bundle is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Format of this document: 1.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Its directory, absolute.
    pub bundle: PathBuf,
    /// The reference it was asked by.
    pub image: String,
    /// The image's id.
    pub image_id: Digest,
    /// Diff ids, lowest first.
    pub layers: Vec<Digest>,
    /// What its rootfs is.
    #[serde(flatten)]
    pub form: Form,
    /// Who makes it; taken off when it is complete. A record of a dead maker is swept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maker: Option<Process>,
}

impl Record {
    /// A record for a bundle about to be made by this process.
    ///
    /// # Errors
    /// A bad name.
    pub fn new(dir: &Path, request: &Request<'_>) -> Result<Self> {
        let name = match request.name {
            Some(name) => name.to_owned(),
            None => default_name(dir),
        };
        name::check("bundle name", &name)?;
        Ok(Self {
            version: 1,
            name,
            bundle: dir.to_owned(),
            image: request.image.name.as_ref().map_or_else(|| request.image.title(), ToString::to_string),
            image_id: request.image.id.clone(),
            layers: request.image.config.rootfs.diff_ids.clone(),
            form: request.form.clone(),
            maker: Some(Process::current().context("read /proc/self/stat")?),
        })
    }

    /// The record of the bundle in `dir`.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    pub fn of(dir: &Path) -> Result<Self> {
        match atomic::read_json::<Self>(&dir.join(NOTE))? {
            // A bundle may have been moved: where it is counts, not where it was.
            Some(record) => Ok(Self { bundle: std::path::absolute(dir)?, ..record }),
            None => fault!(NotFound, "no bundle in {}", dir.display()),
        }
    }

    /// Writes the record: from here on its layers stay. A mark beside it says that the bundle is not whole yet, so that
    /// nobody has to read all records to find the half-made ones. After a power cut either may be missing: what was
    /// not whole is of no use then.
    ///
    /// # Errors
    /// The name is taken.
    pub fn reserve(&self, store: &Store, layers: &Layers) -> Result<()> {
        let path = path_of(store, &self.name);
        let marks = marks(store);
        fs::create_dir_all(&marks).with_context(|| format!("make {}", marks.display()))?;
        let _lock = layers.lock()?;
        if path.exists() {
            fault!(Exists, "the bundle name {} is taken", self.name);
        }
        let mark = mark_of(store, &self.name);
        fs::write(&mark, "").with_context(|| format!("write {}", mark.display()))?;
        atomic::write_json_volatile(&path, self, 0o600).inspect_err(|_| drop(fs::remove_file(mark)))
    }

    /// Marks the bundle complete; `lasting` if it is to outlive a power cut.
    ///
    /// # Errors
    /// No space; somebody removed the bundle while it was made.
    pub fn settle(&self, store: &Store, layers: &Layers, lasting: bool) -> Result<()> {
        let path = path_of(store, &self.name);
        let _lock = layers.lock()?;
        // `unbundle` was here, as after a kill of whoever asked for it: a record written now would stay for good.
        if !path.exists() {
            fault!(WrongState, "the bundle was removed while it was made");
        }
        write(&path, &Self { maker: None, ..self.clone() }, lasting)?;
        let _ = fs::remove_file(mark_of(store, &self.name));
        Ok(())
    }

    /// The layers' directories, lowest first; `None` where one is missing.
    #[must_use]
    pub fn directories(&self, layers: &Layers) -> Option<Vec<PathBuf>> {
        if self.form.keep_links {
            return Some(vec![self.own_tree()]);
        }
        let paths: Vec<PathBuf> = self.layers.iter().map(|layer| layers.path(layer)).collect();
        paths.iter().all(|path| path.is_dir()).then_some(paths)
    }
}

impl Record {
    /// Whose in the image is what somebody owns on the host.
    #[must_use]
    pub fn owners(&self) -> Owners<'_> {
        self.form.maps.as_ref().map_or(Owners::Kept, Owners::Inside)
    }

    /// Where all layers are, if they are extracted for this bundle alone.
    #[must_use]
    pub fn own_tree(&self) -> PathBuf {
        self.bundle.join("lower")
    }
}

/// Unmounts and removes a bundle, then its record.
///
/// # Errors
/// Something cannot be removed.
pub fn dissolve(store: &Store, record: &Record) -> Result<()> {
    RootFs::at(&record.bundle).detach()?;
    shift::clear(&record.bundle)?;
    match fs::remove_dir_all(&record.bundle) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("remove {}", record.bundle.display()));
        }
        _ => {}
    }
    let layers = Layers::open(store.paths())?;
    // Against a maker that settles the record at this moment.
    let _lock = layers.lock()?;
    let (path, mark) = (path_of(store, &record.name), mark_of(store, &record.name));
    if mark.exists() {
        sweep_records(&path);
    }
    match fs::remove_file(path) {
        Err(err) if err.kind() != ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("remove the record of bundle {}", record.name));
        }
        _ => {}
    }
    let _ = fs::remove_file(mark);
    Ok(())
}

/// A maker that was killed while it wrote its record has left a part of it beside; none is written without a mark.
fn sweep_records(path: &Path) {
    path.parent().into_iter().for_each(atomic::sweep);
}

/// Writes a file of a bundle that is to outlive a power cut, or need not.
///
/// # Errors
/// No space.
pub fn write(path: &Path, value: &impl Serialize, lasting: bool) -> Result<()> {
    if lasting {
        atomic::write_json(path, value, 0o600)
    } else {
        atomic::write_json_volatile(path, value, 0o600)
    }
}

/// Removes the bundles whose maker was killed half-way.
///
/// # Errors
/// The records cannot be read.
pub fn sweep(store: &Store) -> Result<()> {
    let dir = marks(store);
    let Ok(entries) = fs::read_dir(&dir) else { return Ok(()) };
    for entry in entries {
        let name = entry.with_context(|| format!("read {}", dir.display()))?.file_name();
        if let Some(name) = name.to_str() {
            sweep_marked(store, name)?;
        }
    }
    Ok(())
}

fn sweep_marked(store: &Store, name: &str) -> Result<()> {
    let path = path_of(store, name);
    let Some(record) = atomic::read_json::<Record>(&path)? else {
        // Its maker was killed before it wrote the record (it is at that only while it holds the lock), or the power went.
        let layers = Layers::open(store.paths())?;
        let _lock = layers.lock()?;
        if atomic::read_json::<Record>(&path)?.is_none() {
            sweep_records(&path);
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(mark_of(store, name));
        }
        return Ok(());
    };
    match record.maker {
        // Killed when it was whole, before the mark had gone.
        None => drop(fs::remove_file(mark_of(store, name))),
        Some(maker) if maker.is_running() => {}
        Some(maker) => {
            // Read again now that its maker has gone: it may have gone because it was done.
            let now = atomic::read_json::<Record>(&path)?;
            if now.is_some_and(|now| now.maker == Some(maker)) {
                dissolve(store, &record)?;
            }
        }
    }
    Ok(())
}

/// The record of the bundle in `dir`, by the note inside or, where that was not yet written, by all records.
///
/// # Errors
/// The records cannot be read.
pub fn by_directory(store: &Store, dir: &Path) -> Result<Option<Record>> {
    if let Some(note) = atomic::read_json::<Record>(&dir.join(NOTE))? {
        return Ok(Some(Record { bundle: dir.to_owned(), ..note }));
    }
    Ok(all(store)?.into_iter().find(|record| record.bundle == dir))
}

fn all(store: &Store) -> Result<Vec<Record>> {
    let dir = store.paths().store.join("bundles");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err).with_context(|| format!("read {}", dir.display())),
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            records.extend(atomic::read_json::<Record>(&path)?);
        }
    }
    Ok(records)
}

fn path_of(store: &Store, name: &str) -> PathBuf {
    store.paths().store.join("bundles").join(format!("{name}.json"))
}

/// There while the bundle is being made.
fn mark_of(store: &Store, name: &str) -> PathBuf {
    marks(store).join(name)
}

fn marks(store: &Store) -> PathBuf {
    store.paths().store.join("bundles").join(MAKING)
}

/// Made from the path, so that a second bundle in the same place is noticed.
fn default_name(dir: &Path) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    Digest::of(dir.as_os_str().as_bytes()).short().to_owned()
}
