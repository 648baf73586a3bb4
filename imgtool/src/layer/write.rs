//! A tar writer whose output depends on nothing but its input: POSIX ustar, with pax records only where they are
//! needed, times in whole seconds.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt as _;

use anyhow::{Context as _, Result, ensure};

use super::header::{self, BLOCK, Block};
use super::read::{Entry, Kind};

/// Writes entries one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
}

impl<W: Write> Writer<W> {
    /// Writes to `output`.
    pub fn new(output: W) -> Self {
        Self { output }
    }

    /// Writes `entry` and, for a file, its `size` bytes of content.
    ///
    /// # Errors
    /// The content is shorter than promised (the file changed meanwhile), or reading or writing fails.
    pub fn entry(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            let block = Block {
                name: b"PaxHeaders".to_vec(),
                flag: b'x',
                mode: 0o644,
                size: records.len() as u64,
                ..Block::default()
            };
            self.output.write_all(&header::encode(&block))?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let size = if entry.kind == Kind::File { entry.size } else { 0 };
        let block = Block {
            name: name_of(entry),
            link: entry.link.clone(),
            flag: flag(entry.kind),
            mode: entry.mode,
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            size,
            mtime: entry.mtime.0,
            device: entry.device,
        };
        self.output.write_all(&header::encode(&block))?;
        let copied = io::copy(&mut content.take(size), &mut self.output)?;
        ensure!(copied == size, "the file became shorter while it was read");
        self.pad(size)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(mut self) -> Result<W> {
        self.output.write_all(&[0; 2 * BLOCK])?;
        self.output.flush().context("write archive")?;
        Ok(self.output)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64)?;
        Ok(self.output.write_all(&[0; BLOCK][..padding])?)
    }
}

/// Directories end in a slash, so that readers from before POSIX know them too.
fn name_of(entry: &Entry) -> Vec<u8> {
    let mut name = entry.path.clone();
    if entry.kind == Kind::Directory && !name.ends_with(b"/") {
        name.push(b'/');
    }
    name
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::SymLink => b'2',
        Kind::Char => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// What the ustar fields cannot hold.
fn records(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    let name = name_of(entry);
    if name.len() > 100 {
        record(&mut out, b"path", &name);
    }
    if entry.link.len() > 100 {
        record(&mut out, b"linkpath", &entry.link);
    }
    if !header::fits(entry.size, 11) {
        record(&mut out, b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if !header::fits(id.into(), 7) {
            record(&mut out, key.as_bytes(), id.to_string().as_bytes());
        }
    }
    if u64::try_from(entry.mtime.0).map_or(true, |seconds| !header::fits(seconds, 11)) {
        record(&mut out, b"mtime", entry.mtime.0.to_string().as_bytes());
    }
    let mut xattrs: Vec<&(OsString, Vec<u8>)> = entry.xattrs.iter().collect();
    xattrs.sort();
    for (name, value) in xattrs {
        record(&mut out, &[b"SCHILY.xattr.", name.as_bytes()].concat(), value);
    }
    out
}

/// `LEN KEY=VALUE\n`, where LEN counts its own digits too.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::read::{Limits, Reader};

    #[test]
    fn what_is_written_is_read() {
        let entry = Entry {
            path: vec![b'p'; 300],
            link: Vec::new(),
            kind: Kind::File,
            mode: 0o4711,
            uid: 1 << 30,
            gid: 7,
            size: 3,
            mtime: (-5, 0),
            device: (0, 0),
            xattrs: vec![("user.x".into(), b"a\0\n=".to_vec())],
        };
        let mut writer = Writer::new(Vec::new());
        writer.entry(&entry, &mut &b"abc"[..]).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = Reader::new(&bytes[..], Limits::default());
        let back = reader.next_entry().unwrap().unwrap();
        assert_eq!(
            (&back.path, back.uid, back.mtime, &back.xattrs),
            (&entry.path, entry.uid, entry.mtime, &entry.xattrs)
        );
        assert_eq!(reader.content().unwrap(), b"abc");
        assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for len in 80..120 {
            let mut out = Vec::new();
            record(&mut out, b"path", &vec![b'x'; len]);
            let digits = out.iter().position(|&byte| byte == b' ').unwrap();
            assert_eq!(std::str::from_utf8(&out[..digits]).unwrap(), out.len().to_string());
        }
    }
}
