//! How large layers are unpacked: what `images` shows, as docker does.
//!
//! A blob never changes, so its unpacked size is noted on its file, in an attribute that no other OCI tool looks at.
//! Extracting a layer and making one write the exact number; before that it is told from the blob itself.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use super::Store;
use super::digest::Digest;
use super::document::Descriptor;
use crate::layer::read::{Limits, Reader};
use crate::layer::stream::{Packing, unpack};

const NOTE: &str = "user.bulkhead.unpacked";

impl Store {
    /// Notes that the files of the layer `digest` have `bytes` bytes. A file system without attributes only costs the
    /// exactness of a column.
    pub fn note_unpacked(&self, digest: &Digest, bytes: u64) {
        if let Ok(file) = File::open(self.blob_path(digest)) {
            let _ = sys::xattr::set(&file, NOTE.as_ref(), bytes.to_string().as_bytes());
        }
    }

    /// The bytes that the files of a layer have; its compressed size where the blob is missing or damaged.
    #[must_use]
    pub fn unpacked_size(&self, layer: &Descriptor) -> u64 {
        let Ok(mut file) = self.open_blob(&layer.digest) else { return layer.size };
        if let Ok(Some(note)) = sys::xattr::get(&file, NOTE.as_ref())
            && let Some(bytes) = std::str::from_utf8(&note).ok().and_then(|text| text.parse().ok())
        {
            return bytes;
        }
        if let Some(bytes) = told_by_trailer(&mut file, layer.size) {
            return bytes;
        }
        match self.count(&layer.digest, layer.size) {
            Some(bytes) => {
                self.note_unpacked(&layer.digest, bytes);
                bytes
            }
            None => layer.size,
        }
    }

    fn count(&self, digest: &Digest, size: u64) -> Option<u64> {
        let input = unpack(self.open_blob(digest).ok()?).ok()?;
        let input = std::io::BufReader::with_capacity(128 << 10, input);
        let mut reader = Reader::new(input, Limits::for_blob(size));
        let mut total = 0;
        while let Some(entry) = reader.next_entry().ok()? {
            total += entry.size;
        }
        Some(total)
    }
}

/// What the last four bytes of a gzip file say: its archive's size, a few percent over its files'. With several
/// members, or over 4 GiB, they say less than can be true: then nothing is told.
fn told_by_trailer(file: &mut File, size: u64) -> Option<u64> {
    let mut head = [0; 6];
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut head).ok()?;
    if Packing::of(&head) != Packing::Gzip {
        return None;
    }
    let mut tail = [0; 4];
    file.seek(SeekFrom::End(-4)).ok()?;
    file.read_exact(&mut tail).ok()?;
    Some(u64::from(u32::from_le_bytes(tail))).filter(|&bytes| bytes > size)
}
