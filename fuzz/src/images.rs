//! One function for each target of imgtool: what comes out of registries, archives and Dockerfiles.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::build::dockerfile::{self, Source, Span, expand};
use crate::build::ignore::Ignore;
use crate::layer::apply::{self, Deletions, apply};
use crate::layer::read::{Entry, Kind, Limits, Reader};
use crate::layer::write::Writer;
use crate::readers::one_line;
use crate::reference::Reference;
use crate::store::config::ImageConfig;
use crate::store::document::{self, Document, Platform};
use crate::store::platform;

const LIMITS: Limits = Limits { bytes: 1 << 20, entries: 500, header: 1 << 16 };

/// A layer's archive: nothing is made or changed outside the directory it is put into, and what is read of it can be
/// written and read again.
pub fn layer(bytes: &[u8]) {
    again(bytes);
    for deletions in [Deletions::Refused, Deletions::Kept, Deletions::Done] {
        let outside = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let root = outside.path().join("root");
        fs::create_dir(&root).expect("a directory");
        for name in ["canary", "a", "b"] {
            fs::write(outside.path().join(name), "untouched").expect("a file");
        }
        let before = seen(outside.path());
        let options = apply::Options { keep_links: true, ..apply::Options::new(deletions, LIMITS) };
        let dir = fs::File::open(&root).expect("the directory");
        one_line(apply(Cursor::new(bytes), dir.into(), options));
        assert_eq!(seen(outside.path()), before, "something outside the root was changed");
        // Whatever its entries made of its mode.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).expect("our own directory");
    }
}

/// What stands beside the root.
fn seen(dir: &Path) -> BTreeMap<PathBuf, (u64, u64, u32, u64, i64)> {
    fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.ends_with("root"))
        .map(|path| {
            let meta = fs::symlink_metadata(&path).expect("what was listed");
            let facts = (meta.ino(), meta.nlink(), meta.mode(), meta.size(), meta.ctime_nsec());
            (path, facts)
        })
        .collect()
}

fn again(bytes: &[u8]) {
    let Some((entries, first)) = one_line(rewritten(bytes)) else { return };
    let (more, second) = rewritten(&first).expect("what was written can be read");
    assert_eq!(entries.len(), more.len());
    for (one, two) in entries.iter().zip(&more) {
        let same = |entry: &Entry| (entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime.0);
        assert_eq!(same(one), same(two), "it changes by being written");
    }
    assert_eq!(first, second, "it changes by being written twice");
}

/// The entries, and an archive of them.
fn rewritten(bytes: &[u8]) -> anyhow::Result<(Vec<Entry>, Vec<u8>)> {
    let mut reader = Reader::new(bytes, LIMITS);
    let (mut entries, mut writer) = (Vec::new(), Writer::new(Vec::new()));
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        loop {
            let piece = reader.content()?;
            if piece.is_empty() {
                break;
            }
            content.extend_from_slice(piece);
            let len = piece.len();
            reader.consume(len);
        }
        if entry.kind == Kind::File {
            assert_eq!(content.len() as u64, entry.size, "not the size that was told");
        }
        writer.entry(&entry, &mut &content[..])?;
        entries.push(entry);
    }
    Ok((entries, writer.finish()?))
}

/// A manifest, an index or an image config.
pub fn manifest(bytes: &[u8]) {
    let carriers = [None, Some(document::OCI_MANIFEST), Some(document::OCI_INDEX), Some("text/plain")];
    for declared in carriers {
        let Some(document) = one_line(Document::parse(bytes.to_vec(), declared)) else { continue };
        assert!(document.digest.matches(bytes) && document.bytes == bytes, "kept as it came");
        let descriptor = document.descriptor();
        assert_eq!(descriptor.size, bytes.len() as u64);
        match &document.kind {
            document::Kind::Manifest(manifest) => {
                for layer in &manifest.layers {
                    let _ = document::packing(&layer.media_type);
                }
                let written = serde_json::to_vec(manifest).expect("it can be written");
                Document::parse(written, Some(&document.media_type)).expect("and read again");
            }
            document::Kind::Index(index) => {
                let wanted = Platform::host();
                if let Some(chosen) = platform::select(index, &wanted) {
                    assert!(index.manifests.contains(chosen));
                }
                let written = serde_json::to_vec(index).expect("it can be written");
                Document::parse(written, Some(&document.media_type)).expect("and read again");
            }
        }
    }
    if let Some(config) = one_line(ImageConfig::parse(bytes)) {
        let written = config.to_bytes().expect("it can be written");
        let again = ImageConfig::parse(&written).expect("and read again");
        assert_eq!(written, again.to_bytes().expect("and written"), "it changes by being read");
        assert_eq!(config.rootfs.diff_ids, again.rootfs.diff_ids);
        drop((config.platform(), config.labels(), config.strings("Env")));
    }
}

/// A Dockerfile: whatever is wrong has a place in it.
pub fn dockerfile(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.lines().count().max(1);
    let sound = |span: Span| {
        assert!(span.first <= span.last && span.last <= lines, "{span:?} of {lines} lines");
    };
    match dockerfile::parse::dockerfile(text) {
        Ok(file) => {
            assert!(!file.stages.is_empty());
            for stage in &file.stages {
                sound(stage.span);
                stage.steps.iter().for_each(|step| sound(step.span));
            }
        }
        Err(wrong) => {
            sound(wrong.span);
            assert!(!wrong.message.is_empty());
            let source = Source { name: "Dockerfile".into(), text: text.into() };
            assert!(source.excerpt(&wrong).lines().count() >= 2);
        }
    }
    let value = |name: &str| (name.len() < 3).then(|| "a value".to_owned());
    for line in text.lines() {
        for escape in ['\\', '`'] {
            drop((expand::word(line, escape, &value), expand::words(line, escape, &value)));
            drop(expand::body(line, escape, &value));
        }
        drop(dockerfile::parse::trigger(line));
    }
    let ignore = Ignore::parse(text);
    for path in ["a", "a/b", "a/b/c.txt", "é"] {
        assert!(!ignore.is_empty() || !ignore.hides(path), "nothing is told and {path} is hidden");
        assert!(!ignore.hides_all() || ignore.hides(path), "all is hidden but {path}");
    }
}

/// An image's name: what is shown of it names the same image.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(name) = one_line(text.parse::<Reference>().map_err(Into::into)) else { return };
    for shown in [name.to_string(), name.familiar()] {
        let again: Reference =
            shown.parse().unwrap_or_else(|err| panic!("{text:?} is shown as {shown:?}: {err}"));
        assert_eq!(again, name, "{text:?} is shown as {shown:?}");
    }
    let latest = name.clone().or_latest();
    assert!(latest.tag().is_some() || latest.digest().is_some());
    // They become parts of URLs and paths.
    let safe = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#%\\\"".contains(&byte));
    assert!(safe(&name.repository()) && safe(&name.manifest_name()), "{text:?}");
    assert!(!name.path().split('/').any(|part| part.is_empty() || part == ".." || part == "."), "{text:?}");
}
