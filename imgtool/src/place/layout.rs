//! OCI image layouts in directories: `oci:DIR[:NAME]`.

use std::fs::{self, File};
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::lock::Lock;
use contracts::{atomic, fault};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::path::Root;

use super::{Sink, Source};
use crate::store::blob::{copy, untangled};
use crate::store::digest::{Digest, Hasher};
use crate::store::document::{Descriptor, Document, Index, MAX_DOCUMENT};
use crate::store::index::{CONTAINERD_NAME, REF_NAME};
use crate::transfer::progress::Bar;

/// A layout to read. Its files are somebody else's: no path leaves the directory, whatever links it holds.
pub struct LayoutSource {
    dir: PathBuf,
    root: Root,
    name: Option<String>,
}

impl LayoutSource {
    /// Opens the layout at `dir`; `name` picks one of several images.
    ///
    /// # Errors
    /// `NotFound` where there is no layout.
    pub fn open(dir: &Path, name: Option<&str>) -> Result<Self> {
        if !dir.join("index.json").exists() {
            fault!(NotFound, "{} is no OCI image layout: it has no index.json", dir.display());
        }
        let root = Root::open(dir).with_context(|| format!("open {}", dir.display()))?;
        Ok(Self { dir: dir.into(), root, name: name.map(Into::into) })
    }

    /// The entry that the name picks, or the only one.
    fn entry(&self) -> Result<Descriptor> {
        let bytes = self.root.read(Path::new("index.json"), MAX_DOCUMENT);
        let bytes = bytes.with_context(|| format!("read index.json of {}", self.dir.display()))?;
        let index: Index = serde_json::from_slice(&bytes)
            .with_context(|| format!("parse index.json of {}", self.dir.display()))?;
        let has = |entry: &Descriptor, name: &str| {
            [REF_NAME, CONTAINERD_NAME]
                .iter()
                .any(|key| entry.annotations.get(*key).is_some_and(|own| own == name))
                || entry.digest.to_string() == name
        };
        match (&self.name, &index.manifests[..]) {
            (Some(name), entries) => match entries.iter().find(|entry| has(entry, name)) {
                Some(entry) => Ok(entry.clone()),
                None => fault!(NotFound, "no image {name} in layout {}", self.dir.display()),
            },
            (None, [only]) => Ok(only.clone()),
            (None, entries) => fault!(
                Usage,
                "layout {} holds {} images: name one, oci:{}:NAME",
                self.dir.display(),
                entries.len(),
                self.dir.display()
            ),
        }
    }

    fn file(&self, digest: &Digest) -> Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = self.root.open_in(&blob_path(digest), flags, Mode::empty());
        let file = File::from(file.with_context(|| format!("open blob {digest} of {}", self.dir.display()))?);
        if !file.metadata().with_context(|| format!("look at blob {digest}"))?.is_file() {
            fault!(Unsupported, "blob {digest} of {} is no file", self.dir.display());
        }
        Ok(file)
    }
}

impl Source for LayoutSource {
    fn top(&self) -> Result<Document> {
        self.document(&self.entry()?)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let mut bytes = Vec::new();
        let digest = &descriptor.digest;
        self.file(digest)?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .with_context(|| format!("read manifest {digest}"))?;
        if !digest.matches(&bytes) {
            anyhow::bail!("manifest {digest} of {} has the wrong content", self.dir.display());
        }
        Document::parse(bytes, Some(descriptor.media_type.as_str()).filter(|text| !text.is_empty()))
    }

    fn blob<'a>(&'a self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + 'a>> {
        let mut file = self.file(&descriptor.digest)?;
        file.seek(SeekFrom::Start(offset)).with_context(|| format!("read blob {}", descriptor.digest))?;
        Ok(Box::new(file))
    }
}

/// A layout to write, made where it is missing.
pub struct LayoutSink {
    dir: PathBuf,
    name: Option<String>,
}

impl LayoutSink {
    /// Opens or makes the layout at `dir`; the image gets the name `name`.
    ///
    /// # Errors
    /// The directory cannot be made, or is something else.
    pub fn open(dir: &Path, name: Option<&str>) -> Result<Self> {
        if !dir.join("oci-layout").exists() {
            // What a killed command began is no reason to refuse its repetition.
            let foreign = |entry: std::io::Result<fs::DirEntry>| {
                let name = entry.map(|entry| entry.file_name()).unwrap_or_default();
                !["index.json", "oci-layout", "blobs"]
                    .iter()
                    .any(|own| name.as_encoded_bytes().starts_with(own.as_bytes()))
            };
            if fs::read_dir(dir).is_ok_and(|mut entries| entries.any(foreign)) {
                fault!(Exists, "{} is neither empty nor an OCI image layout", dir.display());
            }
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
            atomic::write_json(&dir.join("index.json"), &Index::default(), 0o644)?;
            atomic::write(&dir.join("oci-layout"), b"{\"imageLayoutVersion\":\"1.0.0\"}", 0o644)?;
        }
        atomic::sweep(dir);
        atomic::sweep(&dir.join("blobs/sha256"));
        Ok(Self { dir: dir.into(), name: name.map(Into::into) })
    }

    fn store(&self, digest: &Digest, reader: &mut dyn Read) -> Result<()> {
        let path = self.dir.join(blob_path(digest));
        let parent = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        write_verified(&path, digest, reader)
    }
}

impl Sink for LayoutSink {
    fn put(&self, descriptor: &Descriptor, source: &dyn Source, bar: &Bar) -> Result<()> {
        let path = self.dir.join(blob_path(&descriptor.digest));
        if fs::metadata(&path).is_ok_and(|meta| meta.len() == descriptor.size) {
            bar.done("Already exists");
            return Ok(());
        }
        let reader = source.blob(descriptor, 0)?;
        self.store(&descriptor.digest, &mut bar.reading(reader).take(descriptor.size.saturating_add(1)))?;
        bar.done("Copied");
        Ok(())
    }

    fn put_document(&self, document: &Document, top: bool) -> Result<()> {
        self.store(&document.digest, &mut &document.bytes[..])?;
        if !top {
            return Ok(());
        }
        // No lock file of ours in a foreign layout: the directory's own descriptor serves as one.
        let _lock = Lock::exclusive(&self.dir.join("oci-layout"))?;
        let path = self.dir.join("index.json");
        let mut index: Index = atomic::read_json(&path)?.unwrap_or_default();
        index.manifests.retain(|entry| match &self.name {
            Some(name) => entry.annotations.get(REF_NAME) != Some(name),
            None => entry.digest != document.digest || entry.annotations.contains_key(REF_NAME),
        });
        let mut entry = document.descriptor();
        if let Some(name) = &self.name {
            entry.annotations.insert(REF_NAME.into(), name.clone());
        }
        index.manifests.push(entry);
        atomic::write_json(&path, &index, 0o644)
    }
}

fn blob_path(digest: &Digest) -> PathBuf {
    Path::new("blobs").join(digest.algorithm().name()).join(digest.hex())
}

/// Writes a file to the side, verifies it and moves it into place.
pub(super) fn write_verified(path: &Path, digest: &Digest, reader: &mut dyn Read) -> Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary).with_context(|| format!("make {}", temporary.display()))?;
        let mut hashing = Hashing { file: &mut file, hasher: Hasher::new(digest.algorithm()) };
        copy(reader, &mut hashing).map_err(untangled).with_context(|| format!("write blob {digest}"))?;
        let found = hashing.hasher.finish();
        if found != *digest {
            fault!(Remote, "blob {digest} has the wrong content: its digest is {found}");
        }
        file.sync_data()
            .and_then(|()| fs::rename(&temporary, path))
            .with_context(|| format!("write blob {digest}"))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

struct Hashing<'a> {
    file: &'a mut File,
    hasher: Hasher,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
