//! Docker's json-file: `{"log":"text\n","stream":"stdout","time":"…"}` per line, with rotation; or the same in CRI's
//! lines, `TIME STREAM F TEXT`.
//!
//! A batch of lines goes out in one write. A write that the disk refuses is taken back to the last whole line, so
//! that a full disk neither tears a line nor loses one: the caller keeps the bytes and offers them again.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::container::now;

use super::batch::{Batch, Stamp};
use super::lines::Splitter;
use super::{Limits, Stream, compress};

/// What each line of docker's begins with.
const HEAD: &str = "{\"log\":\"";

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
    batch: Batch,
    /// Where each line ends in it.
    ends: Vec<usize>,
    cri: bool,
    /// Who compresses a rotated file, and the number that the file has by now.
    packing: Option<(i32, u32)>,
}

impl Writer {
    /// Opens or continues the log at `path`.
    pub fn open(path: &Path, limits: Limits, attributes: &[(String, String)]) -> Result<Self> {
        let file = open(path)?;
        // What a supervisor that was killed left of a compression.
        if limits.compress {
            let _ = fs::remove_file(compress::unfinished(path));
            for number in 1..limits.files {
                let plain = numbered(path, number);
                if plain.exists() {
                    let _ = fs::remove_file(compress::packed(&plain));
                }
            }
        }
        let size = file.metadata().with_context(|| format!("stat {}", path.display()))?.len();
        let attributes = if attributes.is_empty() {
            String::new()
        } else {
            let map: std::collections::BTreeMap<_, _> = attributes.iter().cloned().collect();
            format!(",\"attrs\":{}", serde_json::to_string(&map)?)
        };
        let (stdout, stderr) = Default::default();
        let (batch, ends) = Default::default();
        let (cri, packing) = (false, None);
        let path = path.into();
        Ok(Self { path, file, size, limits, attributes, stdout, stderr, batch, ends, cri, packing })
    }

    /// Writes CRI's lines from now on.
    pub fn as_cri(&mut self) {
        self.cri = true;
    }

    /// Adds what was read from `stream`.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let before = self.splitter(stream).clone();
        let mut splitter = std::mem::take(self.splitter(stream));
        let mut encoder = self.encoder(stream, bytes.len());
        splitter.feed(bytes, |bytes, line| encoder.line(bytes, line));
        encoder.finish();
        *self.splitter(stream) = splitter;
        let written = self.write_out();
        self.batch.rest();
        if self.batch.len() == 0 {
            self.ends = Vec::new();
        }
        written.inspect_err(|_| *self.splitter(stream) = before)
    }

    /// Gives the memory for batches back.
    pub fn rest(&mut self) {
        (self.batch, self.ends) = Default::default();
    }

    /// Writes the unfinished lines.
    pub fn flush(&mut self) -> Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut splitter = std::mem::take(self.splitter(stream));
            let mut encoder = self.encoder(stream, 0);
            splitter.finish(|bytes, line| encoder.line(bytes, line));
            encoder.finish();
            self.write_out()?;
        }
        Ok(())
    }

    fn splitter(&mut self, stream: Stream) -> &mut Splitter {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Begins a batch for about so many bytes, with one time for what was read together.
    fn encoder(&mut self, stream: Stream, length: usize) -> Encoder<'_> {
        let word = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        let now = now();
        let (whole, part) = if self.cri {
            (format!("{now} {word} F "), format!("{now} {word} P "))
        } else {
            let part = format!("\",\"stream\":\"{word}\"{},\"time\":\"{now}\"}}\n{HEAD}", self.attributes);
            (format!("\\n{part}"), part)
        };
        self.batch.begin(length * 2);
        if !self.cri {
            self.batch.copy(HEAD.as_bytes(), 0..HEAD.len());
        }
        self.ends.clear();
        let ends = (self.limits.size > 0).then_some(&mut self.ends);
        let (whole, part) = (Stamp::new(whole), Stamp::new(part));
        Encoder { batch: &mut self.batch, ends, whole, part, cri: self.cri }
    }

    fn write_out(&mut self) -> Result<()> {
        let whole = self.batch.len();
        if self.limits.size == 0 || self.size + (whole as u64) < self.limits.size {
            return self.append(0, whole);
        }
        let mut start = 0;
        let mut at = 0;
        for index in 0..self.ends.len() {
            // Docker's rule: a file that has reached the limit is closed before the next line.
            let reached = self.size + (at - start) as u64;
            if reached >= self.limits.size {
                self.append(start, at)?;
                start = at;
                self.rotate()?;
            }
            at = self.ends[index];
        }
        self.append(start, at)
    }

    fn append(&mut self, start: usize, end: usize) -> Result<()> {
        if start == end {
            return Ok(());
        }
        if let Err(err) = self.file.write_all(&self.batch.bytes()[start..end]) {
            // Half a line must not stay; where even this fails, readers skip what they cannot parse.
            let _ = self.file.set_len(self.size);
            return Err(err).with_context(|| format!("write {}", self.path.display()));
        }
        self.size += (end - start) as u64;
        Ok(())
    }

    /// `log.json` becomes `log.json.1`, and so on; the oldest goes. A reader keeps the file that it has open.
    fn rotate(&mut self) -> Result<()> {
        let last = self.limits.files - 1;
        if last > 0 {
            let oldest = numbered(&self.path, last);
            if self.limits.compress {
                let _ = fs::remove_file(compress::packed(&oldest));
                let _ = fs::remove_file(&oldest);
            }
            for number in (0..last).rev() {
                let (from, to) = (numbered(&self.path, number), numbered(&self.path, number + 1));
                let _ = fs::rename(&from, &to);
                if self.limits.compress && number > 0 {
                    let _ = fs::rename(compress::packed(&from), compress::packed(&to));
                }
            }
        } else {
            let _ = fs::remove_file(&self.path);
        }
        self.file = open(&self.path)?;
        self.size = 0;
        if let Some((_, number)) = &mut self.packing {
            *number += 1;
        }
        self.compress_next();
        Ok(())
    }

    /// Starts the compression of the oldest file that is not compressed, one at a time.
    fn compress_next(&mut self) {
        if !self.limits.compress || self.packing.is_some() {
            return;
        }
        let plain = (1..self.limits.files).rev().find(|&number| numbered(&self.path, number).exists());
        let Some(number) = plain else { return };
        let target = compress::unfinished(&self.path);
        // Where it cannot be started the file stays as it is; the next rotation tries again.
        self.packing = compress::start(&numbered(&self.path, number), &target).ok().map(|pid| (pid, number));
    }

    /// Whether a file is being compressed.
    pub fn is_compressing(&self) -> bool {
        self.packing.is_some()
    }

    /// A child of ours ended: where it has compressed a file, that takes the plain one's place.
    pub fn child_ended(&mut self, pid: i32, code: i32) {
        let Some((packer, number)) = self.packing.filter(|(packer, _)| *packer == pid) else { return };
        debug_assert_eq!(packer, pid);
        self.packing = None;
        let (made, plain) = (compress::unfinished(&self.path), numbered(&self.path, number));
        if code != 0 || number >= self.limits.files {
            let _ = fs::remove_file(made);
        } else if fs::rename(made, compress::packed(&plain)).is_ok() {
            let _ = fs::remove_file(plain);
        }
        if code == 0 {
            self.compress_next();
        }
    }
}

/// Lines on their way into a batch.
struct Encoder<'a> {
    batch: &'a mut Batch,
    /// Where each line ends, for a log that rotates.
    ends: Option<&'a mut Vec<usize>>,
    /// What stands before a whole line in CRI's form; in docker's what stands behind it, and the next one's head.
    whole: Stamp,
    /// The same for a part of a line.
    part: Stamp,
    cri: bool,
}

impl Encoder<'_> {
    /// Adds the line that is `line` of `bytes`.
    #[inline]
    fn line(&mut self, bytes: &[u8], line: Range<usize>) {
        let is_whole = bytes[..line.end].ends_with(b"\n");
        let around = if is_whole { &self.whole } else { &self.part };
        if self.cri {
            self.batch.stamp(around);
            self.batch.copy(bytes, line);
            if !is_whole {
                self.batch.push(b'\n');
            }
        } else {
            self.batch.escape(bytes, line.start..line.end - usize::from(is_whole));
            self.batch.stamp(around);
        }
        if let Some(ends) = &mut self.ends {
            ends.push(self.batch.len() - if self.cri { 0 } else { HEAD.len() });
        }
    }

    /// The last line has no next one.
    fn finish(self) {
        if !self.cri {
            self.batch.truncate(self.batch.len() - HEAD.len());
        }
    }
}

/// The name of the file that was rotated `number` times.
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn writer(dir: &Path, size: u64, files: u32) -> Writer {
        Writer::open(&dir.join("log.json"), Limits { size, files, compress: false }, &[]).unwrap()
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
    fn cri_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), 0, 1);
        log.as_cri();
        log.write(Stream::Stderr, b"one\n").unwrap();
        log.write(Stream::Stdout, &[b'x'; super::super::lines::LONGEST + 1]).unwrap();
        log.flush().unwrap();
        let text = fs::read_to_string(dir.path().join("log.json")).unwrap();
        let marks: Vec<String> =
            text.lines().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(marks, ["stderr F", "stdout P", "stdout P"]);
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
