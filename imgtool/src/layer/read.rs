//! A tar reader for hostile input: one pass, bounded memory, Go's `archive/tar` as the model where formats clash
//! (a reader that disagrees with others about sizes can be fed smuggled entries, CVE-2025-62518).

use std::ffi::OsString;
use std::io::{BufRead, Read as _};
use std::os::unix::ffi::OsStringExt as _;

use anyhow::{Context as _, Result, bail, ensure};

use super::header::{self, BLOCK, Block};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file with content.
    File,
    /// A further name of an earlier file.
    HardLink,
    /// A symbolic link.
    SymLink,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry; its content, if any, is read from the [`Reader`] before the next entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Name as it stands in the archive: may be absolute, hold `..`, or be empty.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content.
    pub size: u64,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Device numbers, major and minor.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// How much an archive may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of content over all entries.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Bytes of one pax header or long name.
    pub header: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 40, entries: 4_000_000, header: 1 << 20 }
    }
}

impl Limits {
    /// Limits for a compressed layer of `size` bytes: content may be 1 GiB, or 250 times the compressed size where
    /// that is more. Real layers compress below 1:50; a bomb of zeros reaches 1:1000.
    #[must_use]
    pub fn for_blob(size: u64) -> Self {
        Self { bytes: (1 << 30).max(size.saturating_mul(250)), ..Self::default() }
    }
}

/// Reads entries one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    limits: Limits,
    /// Content of the current entry not yet read, and the padding after it.
    left: u64,
    padding: u64,
    entries: u64,
    bytes: u64,
}

/// What pax records and GNU long names say about the next entry.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl<R: BufRead> Reader<R> {
    /// Reads from `input`.
    pub fn new(input: R, limits: Limits) -> Self {
        Self { input, limits, left: 0, padding: 0, entries: 0, bytes: 0 }
    }

    /// The next entry; `None` at the end mark, or at the end of the input between two entries.
    ///
    /// # Errors
    /// A truncated or damaged archive, one over the limits, one with features that cannot be kept (sparse files).
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip_content()?;
        let mut extension = Extension::default();
        loop {
            let Some(raw) = self.block()? else { return Ok(None) };
            let Some(block) = header::decode(&raw)? else { return Ok(None) };
            self.entries += 1;
            ensure!(
                self.entries <= self.limits.entries,
                "more than {} entries (--max-entries)",
                self.limits.entries
            );
            match block.flag {
                b'x' => pax(&self.small_content(block.size)?, &mut extension)?,
                // Global records name no entry; what they may hold (a comment) has no place in a file system.
                b'g' => drop(self.small_content(block.size)?),
                b'L' => extension.path = Some(long_name(self.small_content(block.size)?)),
                b'K' => extension.link = Some(long_name(self.small_content(block.size)?)),
                _ => return self.finish(block, extension).map(Some),
            }
        }
    }

    fn finish(&mut self, block: Block, extension: Extension) -> Result<Entry> {
        let path = extension.path.unwrap_or(block.name);
        let kind = match block.flag {
            // Archives from before POSIX mark a directory by the slash alone.
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymLink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => bail!("{}: sparse tar entries are not supported", shown(&path)),
            other => bail!("{}: unknown tar entry type {:?}", shown(&path), char::from(other)),
        };
        let size = if kind == Kind::File { extension.size.unwrap_or(block.size) } else { 0 };
        self.bytes = self.bytes.saturating_add(size);
        ensure!(
            self.bytes <= self.limits.bytes,
            "{}: more than {} bytes of content (bundle --max-layer-size allows more)",
            shown(&path),
            self.limits.bytes
        );
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let id = |value: u64, what: &str| {
            u32::try_from(value)
                .ok()
                .filter(|&id| id != u32::MAX)
                .with_context(|| format!("{}: {what} {value} is no valid id", shown(&path)))
        };
        Ok(Entry {
            uid: id(extension.uid.unwrap_or(block.uid), "uid")?,
            gid: id(extension.gid.unwrap_or(block.gid), "gid")?,
            link: extension.link.unwrap_or(block.link),
            kind,
            mode: block.mode,
            size,
            mtime: extension.mtime.unwrap_or((block.mtime, 0)),
            device: block.device,
            xattrs: extension.xattrs,
            path,
        })
    }

    /// Bytes of content of all entries so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next piece of the current entry's content, as it lies in the input's buffer; empty at its end.
    ///
    /// # Errors
    /// The input fails or ends early.
    pub fn content(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let buffer = self.input.fill_buf().context("read archive")?;
        ensure!(!buffer.is_empty(), "archive is truncated");
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        Ok(&buffer[..len])
    }

    /// Marks `len` bytes of [`Self::content`] as used.
    pub fn consume(&mut self, len: usize) {
        self.input.consume(len);
        self.left -= len as u64;
    }

    fn skip_content(&mut self) -> Result<()> {
        loop {
            let len = self.content()?.len();
            if len == 0 {
                break;
            }
            self.consume(len);
        }
        let padding = std::mem::take(&mut self.padding);
        let mut block = [0; BLOCK];
        let padding = usize::try_from(padding).unwrap_or(0);
        self.input.read_exact(&mut block[..padding]).context("archive is truncated")
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        if self.input.fill_buf().context("read archive")?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).context("archive is truncated")?;
        Ok(Some(block))
    }

    /// The content of a header entry. The claimed size is checked before anything is allocated.
    fn small_content(&mut self, size: u64) -> Result<Vec<u8>> {
        ensure!(size <= self.limits.header, "tar header of {size} bytes is over {}", self.limits.header);
        let mut bytes = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut bytes).context("read archive")?;
        ensure!(bytes.len() as u64 == size, "archive is truncated");
        self.padding = size.wrapping_neg() % BLOCK as u64;
        self.skip_content()?;
        Ok(bytes)
    }
}

fn long_name(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

/// Records `LEN KEY=VALUE\n`, where LEN counts the whole record.
fn pax(mut records: &[u8], extension: &mut Extension) -> Result<()> {
    while !records.is_empty() {
        let blank = records.iter().take(20).position(|&byte| byte == b' ').context("bad pax record")?;
        let len = std::str::from_utf8(&records[..blank]).ok().and_then(|text| text.parse::<usize>().ok());
        let len =
            len.filter(|&len| len > blank + 2 && len <= records.len()).context("bad pax record length")?;
        let record = records[blank + 1..len].strip_suffix(b"\n").context("bad pax record end")?;
        let equals = record.iter().position(|&byte| byte == b'=').context("bad pax record")?;
        apply_record(&record[..equals], &record[equals + 1..], extension)?;
        records = &records[len..];
    }
    Ok(())
}

fn apply_record(key: &[u8], value: &[u8], extension: &mut Extension) -> Result<()> {
    let path = || {
        ensure!(!value.contains(&0), "NUL in a pax path");
        Ok(Some(value.to_vec()).filter(|value| !value.is_empty()))
    };
    let number = || -> Result<Option<u64>> {
        let text = std::str::from_utf8(value).unwrap_or("?");
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(text.parse().with_context(|| format!("pax number {}", shown(value)))?))
    };
    match key {
        b"path" => extension.path = path()?,
        b"linkpath" => extension.link = path()?,
        b"size" => extension.size = number()?,
        b"uid" => extension.uid = number()?,
        b"gid" => extension.gid = number()?,
        b"mtime" => extension.mtime = Some(time(value).context("pax mtime")?),
        _ if key.starts_with(b"GNU.sparse.") => bail!("sparse tar entries are not supported"),
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                ensure!(!name.is_empty() && !name.contains(&0), "bad attribute name in a pax record");
                extension.xattrs.push((OsString::from_vec(name.to_vec()), value.to_vec()));
            }
        }
    }
    Ok(())
}

/// Seconds with an optional fraction, `-1.5`.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

/// A name from an archive, fit for a message.
pub fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).flat_map(char::escape_debug).collect()
}
