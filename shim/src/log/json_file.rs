//! Docker's json-file: `{"log":"text\n","stream":"stdout","time":"…"}` per line, with rotation.
//!
//! A batch of lines goes out in one write. A write that the disk refuses is taken back to the last whole line, so
//! that a full disk neither tears a line nor loses one: the caller keeps the bytes and offers them again.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::container::now;

use super::lines::Splitter;
use super::{Limits, Stream};

/// The log being written.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    /// Bytes in the current file.
    size: u64,
    limits: Limits,
    /// `,"attrs":{…}` or nothing.
    attributes: String,
    stdout: Splitter,
    stderr: Splitter,
    /// Encoded lines, kept to spare allocations.
    batch: Vec<u8>,
}

impl Writer {
    /// Opens or continues the log at `path`.
    pub fn open(path: &Path, limits: Limits, attributes: &[(String, String)]) -> Result<Self> {
        let file = append(path)?;
        let size = file.metadata().with_context(|| format!("stat {}", path.display()))?.len();
        let attributes = if attributes.is_empty() {
            String::new()
        } else {
            let map: std::collections::BTreeMap<_, _> = attributes.iter().cloned().collect();
            format!(",\"attrs\":{}", serde_json::to_string(&map)?)
        };
        let (stdout, stderr) = Default::default();
        Ok(Self { path: path.into(), file, size, limits, attributes, stdout, stderr, batch: Vec::new() })
    }

    /// Adds what was read from `stream`.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let before = self.splitter(stream).clone();
        let mut splitter = std::mem::take(self.splitter(stream));
        let mut ends = Vec::new();
        self.encode(stream, &mut ends, |each| splitter.feed(bytes, each));
        *self.splitter(stream) = splitter;
        self.write_out(&ends).inspect_err(|_| *self.splitter(stream) = before)
    }

    /// Writes the unfinished lines.
    pub fn flush(&mut self) -> Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut splitter = std::mem::take(self.splitter(stream));
            let mut ends = Vec::new();
            self.encode(stream, &mut ends, |each| splitter.finish(each));
            self.write_out(&ends)?;
        }
        Ok(())
    }

    fn splitter(&mut self, stream: Stream) -> &mut Splitter {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Encodes lines into `self.batch`; `ends` gets where each ends in it.
    fn encode(&mut self, stream: Stream, ends: &mut Vec<usize>, feed: impl FnOnce(&mut dyn FnMut(&[u8]))) {
        let word = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        // One time for what was read together.
        let tail = format!("\",\"stream\":\"{word}\"{},\"time\":\"{}\"}}\n", self.attributes, now());
        self.batch.clear();
        let batch = &mut self.batch;
        feed(&mut |line: &[u8]| {
            batch.extend_from_slice(b"{\"log\":\"");
            escape(line, batch);
            batch.extend_from_slice(tail.as_bytes());
            ends.push(batch.len());
        });
    }

    fn write_out(&mut self, ends: &[usize]) -> Result<()> {
        let mut start = 0;
        let mut at = 0;
        for &end in ends {
            // Docker's rule: a file that has reached the limit is closed before the next line.
            let reached = self.size + (at - start) as u64;
            if self.limits.size > 0 && reached >= self.limits.size {
                self.append(start, at)?;
                start = at;
                self.rotate()?;
            }
            at = end;
        }
        self.append(start, at)
    }

    fn append(&mut self, start: usize, end: usize) -> Result<()> {
        if start == end {
            return Ok(());
        }
        if let Err(err) = self.file.write_all(&self.batch[start..end]) {
            // Half a line must not stay; where even this fails, readers skip what they cannot parse.
            let _ = self.file.set_len(self.size);
            return Err(err).with_context(|| format!("write {}", self.path.display()));
        }
        self.size += (end - start) as u64;
        Ok(())
    }

    /// `log.json` becomes `log.json.1`, and so on; the oldest goes. A reader keeps the file that it has open.
    fn rotate(&mut self) -> Result<()> {
        let name = |number: u32| {
            let mut path = self.path.clone().into_os_string();
            if number > 0 {
                path.push(format!(".{number}"));
            }
            PathBuf::from(path)
        };
        if self.limits.files > 1 {
            for number in (0..self.limits.files - 1).rev() {
                let _ = fs::rename(name(number), name(number + 1));
            }
        } else {
            let _ = fs::remove_file(&self.path);
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// The inside of a JSON string. Bytes that are no UTF-8 become U+FFFD, as docker's do.
fn escape(line: &[u8], out: &mut Vec<u8>) {
    for chunk in line.utf8_chunks() {
        let text = chunk.valid().as_bytes();
        let mut plain = 0;
        for (at, &byte) in text.iter().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            out.extend_from_slice(&text[plain..at]);
            plain = at + 1;
            match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                _ => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                }
            }
        }
        out.extend_from_slice(&text[plain..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn writer(dir: &Path, size: u64, files: u32) -> Writer {
        Writer::open(&dir.join("log.json"), Limits { size, files }, &[]).unwrap()
    }

    fn read(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_byte_is_readable_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 0, 1);
        let odd = "quote \" back \\ tab \t bell \u{7} ü\n";
        log.write(Stream::Stdout, odd.as_bytes()).unwrap();
        log.write(Stream::Stderr, b"\xffunfinished").unwrap();
        log.flush().unwrap();
        let lines = read(&dir.path().join("log.json"));
        assert_eq!(lines[0]["log"], odd);
        assert_eq!(
            (lines[1]["log"].as_str(), lines[1]["stream"].as_str()),
            (Some("\u{fffd}unfinished"), Some("stderr"))
        );
    }

    #[test]
    fn rotation_keeps_whole_lines_and_the_newest_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 1024, 2);
        let text: String = (1..=100).map(|number| format!("line {number}\n")).collect();
        log.write(Stream::Stdout, text.as_bytes()).unwrap();
        let mut lines = read(&dir.path().join("log.json.1"));
        lines.extend(read(&dir.path().join("log.json")));
        assert_eq!(lines.last().unwrap()["log"], "line 100\n");
        assert!(lines.len() > 10 && lines.len() < 40 && !dir.path().join("log.json.2").exists());
        let first: usize = lines[0]["log"].as_str().unwrap().trim()[5..].parse().unwrap();
        assert_eq!(lines.len(), 101 - first, "no line is missing in between");
    }

    #[test]
    fn a_full_disk_tears_no_line_and_the_bytes_can_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 0, 1);
        log.write(Stream::Stdout, b"a\nhal").unwrap();
        let good = log.file.try_clone().unwrap();
        log.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        assert!(log.write(Stream::Stdout, b"f\n").is_err());
        log.file = good;
        log.write(Stream::Stdout, b"f\n").unwrap();
        let texts: Vec<Value> =
            read(&dir.path().join("log.json")).iter().map(|line| line["log"].clone()).collect();
        assert_eq!(texts, ["a\n", "half\n"]);
    }
}
