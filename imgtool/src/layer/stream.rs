//! A compressed layer as a stream of content: one thread decompresses ahead, one hashes, the caller uses.
//!
//! Decompressing, hashing and writing each cost about the same (docs/performance.md), so on two cores they overlap.
//! Buffers go round: what the slower of the two readers has finished with is filled again.

use std::io::{self, BufRead, Cursor, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Fits the second-level cache of one core with its neighbour.
const CHUNK: usize = 128 << 10;
/// Chunks in flight: bounds the memory to about 2 MiB a layer.
const AHEAD: usize = 8;

/// Most that an xz file may make its reader allocate, in KiB: `xz -9` needs 65 MiB, the format allows 4 GiB.
const XZ_MEMORY: u32 = 160 << 10;

/// How the bytes are packed, as their first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, one or many members.
    Gzip,
    /// zstd.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Packing {
    /// Recognises a packing by its magic number.
    #[must_use]
    pub fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // Skippable frames come first in zstd:chunked and pzstd files.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// Unpacks `source`, told by its first bytes.
///
/// # Errors
/// The source fails, or is packed in a way that is not supported.
pub fn unpack(mut source: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
    let mut head = [0; 6];
    let mut len = 0;
    while len < head.len() {
        match source.read(&mut head[len..]).context("read")? {
            0 => break,
            read => len += read,
        }
    }
    let source = Cursor::new(head).take(len as u64).chain(source);
    Ok(match Packing::of(&head[..len]) {
        Packing::Plain => Box::new(source),
        Packing::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(io::BufReader::with_capacity(CHUNK, source)))
        }
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(source).context("start zstd")?),
        Packing::Bzip2 => {
            Box::new(bzip2::bufread::MultiBzDecoder::new(io::BufReader::with_capacity(CHUNK, source)))
        }
        Packing::Xz => {
            let source = io::BufReader::with_capacity(CHUNK, source);
            Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, XZ_MEMORY))
        }
    })
}

/// A buffer that goes back to the reading thread when both readers are done with it.
struct Chunk {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // The reading thread may have ended.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// The unpacked bytes; after [`Stream::finish`] also their digest.
pub struct Stream {
    chunks: Receiver<io::Result<Arc<Chunk>>>,
    current: Option<Arc<Chunk>>,
    used: usize,
    hasher: JoinHandle<[u8; 32]>,
}

impl Stream {
    /// Starts unpacking and hashing `source`.
    ///
    /// # Errors
    /// As [`unpack`], or no thread can be started.
    pub fn start(source: impl Read + Send + 'static) -> Result<Self> {
        let source = unpack(source)?;
        let (to_user, chunks) = sync_channel(AHEAD);
        let (to_hasher, hashed) = sync_channel::<Arc<Chunk>>(AHEAD);
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        let hasher = thread("hash")
            .spawn(move || {
                let mut hash = Sha256::new();
                for chunk in hashed {
                    hash.update(&chunk.bytes);
                }
                hash.finalize().into()
            })
            .context("start a thread")?;
        thread("unpack").spawn(move || read_ahead(source, &to_user, &to_hasher)).context("start a thread")?;
        Ok(Self { chunks, current: None, used: 0, hasher })
    }

    /// Reads to the end of the source and returns the sha256 of all unpacked bytes.
    ///
    /// # Errors
    /// The source fails.
    pub fn finish(mut self) -> Result<[u8; 32]> {
        loop {
            let len = self.fill_buf().context("read")?.len();
            if len == 0 {
                break;
            }
            self.consume(len);
        }
        drop(self.current);
        drop(self.chunks);
        self.hasher.join().map_err(|_| anyhow::anyhow!("the hashing thread ended badly"))
    }
}

fn read_ahead(
    mut source: Box<dyn Read + Send>,
    to_user: &SyncSender<io::Result<Arc<Chunk>>>,
    to_hasher: &SyncSender<Arc<Chunk>>,
) {
    let (home, returned) = channel::<Vec<u8>>();
    loop {
        let mut bytes = returned.try_recv().unwrap_or_default();
        bytes.resize(CHUNK, 0);
        let sent = match fill(&mut source, &mut bytes) {
            Ok(0) => return,
            Ok(len) => {
                bytes.truncate(len);
                let chunk = Arc::new(Chunk { bytes, home: home.clone() });
                to_hasher.send(Arc::clone(&chunk)).is_ok() && to_user.send(Ok(chunk)).is_ok()
            }
            Err(err) => {
                let _ = to_user.send(Err(err));
                return;
            }
        };
        // The user gave up: so do we.
        if !sent {
            return;
        }
    }
}

fn fill(source: &mut dyn Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match source.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(len)
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let empty = self.current.as_ref().is_none_or(|chunk| self.used >= chunk.bytes.len());
        if empty {
            self.used = 0;
            self.current = match self.chunks.recv() {
                Ok(chunk) => Some(chunk?),
                // The reading thread has ended: end of the stream.
                Err(_) => None,
            };
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk.bytes[self.used..]))
    }

    fn consume(&mut self, len: usize) {
        self.used += len;
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let from = self.fill_buf()?;
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        self.consume(len);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XZ: &[u8] = b"\xfd\x37\x7a\x58\x5a\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x16\x00\x00\x00\x74\x2f\xe5\xa3\
        \x01\x00\x05\x68\x65\x6c\x6c\x6f\x0a\x00\x00\x00\xa5\x60\x97\xf1\x94\xf6\xfd\xe0\x00\x01\x1e\x06\xc1\x2f\xa4\x1d\
        \x1f\xb6\xf3\x7d\x01\x00\x00\x00\x00\x04\x59\x5a";
    const BZIP2: &[u8] =
        b"\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\xc1\xc0\x80\xe2\x00\x00\x01\x41\x00\x00\x10\x02\x44\
        \xa0\x00\x30\xcd\x00\xc3\x46\x29\x97\x17\x72\x45\x38\x50\x90\xc1\xc0\x80\xe2";

    fn unpacked(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        unpack(Cursor::new(packed.to_vec())).unwrap().read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn every_packing_is_told_by_its_first_bytes_and_read_to_its_end() {
        for packed in [XZ, BZIP2] {
            assert_eq!(unpacked(packed).unwrap(), b"hello\n");
            // Concatenated streams are one.
            assert_eq!(unpacked(&packed.repeat(2)).unwrap(), b"hello\nhello\n");
            assert!(unpacked(&packed[..packed.len() - 9]).is_err(), "a cut stream was taken for a whole one");
            let mut wrong = packed.to_vec();
            wrong[packed.len() / 2] ^= 1;
            assert!(unpacked(&wrong).is_err(), "a damaged stream was taken for a good one");
        }
        assert_eq!(unpacked(b"plain").unwrap(), b"plain");
    }
}
