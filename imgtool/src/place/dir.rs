//! Skopeo's `dir:DIR`: `manifest.json`, `version`, and every blob as a file named by its digest. For one image.

use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::{atomic, fault};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::path::Root;

use super::layout::write_verified;
use super::{Sink, Source};
use crate::store::document::{Descriptor, Document, MAX_DOCUMENT};
use crate::transfer::progress::Bar;

const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";

/// A directory to read.
pub struct DirSource {
    dir: PathBuf,
    root: Root,
}

impl DirSource {
    /// Opens `dir`.
    ///
    /// # Errors
    /// It does not exist.
    pub fn open(dir: &Path) -> Result<Self> {
        let root = Root::open(dir).with_context(|| format!("open {}", dir.display()))?;
        Ok(Self { dir: dir.into(), root })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = Path::new(name);
        self.root.read(path, MAX_DOCUMENT).with_context(|| format!("read {}", self.dir.join(path).display()))
    }
}

impl Source for DirSource {
    fn top(&self) -> Result<Document> {
        Document::parse(self.read("manifest.json")?, None)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let bytes = self.read(&format!("{}.manifest.json", descriptor.digest.hex()))?;
        Document::parse(bytes, Some(descriptor.media_type.as_str()).filter(|text| !text.is_empty()))
    }

    fn blob<'a>(&'a self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        let what = || format!("blob {} of {}", descriptor.digest, self.dir.display());
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = self.root.open_in(Path::new(descriptor.digest.hex()), flags, Mode::empty());
        let mut file = File::from(file.with_context(what)?);
        if !file.metadata().with_context(what)?.is_file() {
            fault!(Unsupported, "{} is no file", what());
        }
        file.seek(SeekFrom::Start(offset)).with_context(what)?;
        Ok(Box::new(file))
    }
}

/// A directory to write, empty or written by this kind of place before.
pub struct DirSink {
    dir: PathBuf,
}

impl DirSink {
    /// Makes `dir`, or empties one of its kind.
    ///
    /// # Errors
    /// It holds something else.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let mut entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
        if entries.next().is_some() && !dir.join("version").exists() {
            fault!(Exists, "{} is not empty and was not written as dir:", dir.display());
        }
        atomic::write(&dir.join("version"), VERSION, 0o644)?;
        Ok(Self { dir: dir.into() })
    }
}

impl Sink for DirSink {
    fn put(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar) -> Result<()> {
        let path = self.dir.join(descriptor.digest.hex());
        if !fs::metadata(&path).is_ok_and(|meta| meta.len() == descriptor.size) {
            let reader = source.blob(descriptor, 0)?;
            let mut reader = bar.reading(reader).take(descriptor.size.saturating_add(1));
            write_verified(&path, &descriptor.digest, &mut reader)?;
        }
        bar.done("Copied");
        Ok(())
    }

    fn put_document(&self, document: &Document, top: bool) -> Result<()> {
        let name =
            if top { "manifest.json".into() } else { format!("{}.manifest.json", document.digest.hex()) };
        atomic::write(&self.dir.join(name), &document.bytes, 0o644)
    }
}
