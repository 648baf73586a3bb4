//! Uploads that did not come to their end: where the registry keeps what it has, so that the next push goes on there.
//!
//! `STORE/images/partial/upload-<hex>` holds one location a line, the last one being where the upload stands; whoever
//! sends the blob holds it locked. It only saves time, so nothing about it is an error.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::store::digest::Digest;

/// No list of locations is longer, whatever a registry answers.
const MAX_RECORD: u64 = 1 << 20;

/// A blob's way into a repository, remembered.
pub struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    /// The record in `dir` of sending `digest` to the repository `title`. `None` where another command sends it now, or
    /// nothing can be remembered.
    pub fn open(dir: &Path, title: &str, digest: &Digest) -> Option<Self> {
        let path = dir.join(format!("upload-{}", Digest::of(format!("{title} {digest}").as_bytes()).hex()));
        let mut options = OpenOptions::new();
        // Readable for us alone: a location may carry the right to write.
        let file = options.read(true).append(true).create(true).mode(0o600).open(&path).ok()?;
        file.try_lock().ok()?;
        // The one who held the lock may have come to its end and removed the file.
        let (own, named) = (file.metadata().ok()?, fs::metadata(&path).ok()?);
        ((own.dev(), own.ino()) == (named.dev(), named.ino())).then_some(Self { path, file })
    }

    /// Where the upload stood.
    pub fn location(&self) -> Option<String> {
        let mut text = String::new();
        (&self.file).take(MAX_RECORD).read_to_string(&mut text).ok()?;
        // What follows the last line's end was being written when its writer died.
        let whole = &text[..text.rfind('\n')?];
        whole.lines().last().filter(|line| !line.is_empty()).map(str::to_owned)
    }

    /// Notes where the upload stands now.
    pub fn note(&self, location: &str) {
        if !location.contains('\n') {
            let _ = (&self.file).write_all(format!("{location}\n").as_bytes());
        }
    }

    /// Forgets what was noted: the registry knows nothing of it any more.
    pub fn restart(&self) {
        let _ = self.file.set_len(0);
    }

    /// The blob is there, or will never be.
    pub fn forget(self) {
        self.restart();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|meta| meta.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_no_location() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"x");
        let open = || Unfinished::open(dir.path(), "r/a", &digest);
        let record = open().unwrap();
        assert_eq!(record.location(), None);
        record.note("/v2/a/1");
        record.note("/v2/a/2");
        (&record.file).write_all(b"/v2/a/").unwrap();
        assert!(open().is_none(), "two commands would send to one upload");
        drop(record);
        assert_eq!(open().unwrap().location().as_deref(), Some("/v2/a/2"));
        open().unwrap().restart();
        assert_eq!(open().unwrap().location(), None);
        open().unwrap().forget();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(Unfinished::open(Path::new("/nonexistent"), "r/a", &digest).is_none());
    }
}
