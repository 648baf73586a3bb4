//! Reading a log's files back: the last lines of many files without reading the rest, and following.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use flate2::bufread::GzDecoder;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Deserialize;

use super::json_file::numbered;
use super::{Stream, compress};

/// One line, or a part of a long one.
#[derive(Debug, Deserialize)]
pub struct Line {
    /// The text, with its newline where the line is whole.
    pub log: String,
    stream: String,
    /// RFC 3339.
    pub time: String,
    /// What the user asked to keep.
    #[serde(default)]
    pub attrs: std::collections::BTreeMap<String, String>,
}

impl Line {
    /// Reads JSON, or CRI's `TIME STREAM F TEXT`.
    fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.first() == Some(&b'{') {
            return serde_json::from_slice(bytes).ok();
        }
        let text = String::from_utf8_lossy(bytes.strip_suffix(b"\n")?);
        let mut parts = text.splitn(4, ' ');
        let (time, stream, tag, text) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let end = if tag.starts_with('F') { "\n" } else { "" };
        Some(Self {
            log: format!("{text}{end}"),
            stream: stream.into(),
            time: time.into(),
            attrs: std::collections::BTreeMap::new(),
        })
    }

    /// Where it was written to.
    pub fn stream(&self) -> Stream {
        if self.stream == "stderr" { Stream::Stderr } else { Stream::Stdout }
    }
}

/// A time as a flag gives it: RFC 3339, a date, Unix seconds, or a duration before now; as the log spells it.
pub fn time(text: &str) -> Result<String> {
    let show = |at: jiff::Timestamp| format!("{at:.9}");
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(show(at));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        #[allow(clippy::cast_possible_truncation)] // saturates
        let nanos = (seconds * 1e9) as i64;
        return Ok(show(jiff::Timestamp::from_nanosecond(i128::from(nanos))?));
    }
    if let Ok(nanos) = crate::request::units::duration("since", text) {
        return Ok(show(jiff::Timestamp::now().checked_sub(jiff::SignedDuration::from_nanos(nanos))?));
    }
    let civil = text.parse::<jiff::civil::DateTime>().or_else(|_| {
        text.parse::<jiff::civil::Date>().map(|date| date.to_datetime(jiff::civil::Time::midnight()))
    });
    match civil.ok().and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::system()).ok()) {
        Some(at) => Ok(show(at.timestamp())),
        None => fault!(
            Usage,
            "invalid time \"{text}\": use 2026-01-02T15:04:05Z, Unix seconds, or a duration like 10m"
        ),
    }
}

/// What a file is known by, also after it was compressed.
#[derive(Debug, Clone, Copy)]
struct Identity {
    inode: u64,
    /// Of its first line: inodes are used again, times are not.
    first: u64,
    plain: bool,
}

impl Identity {
    /// Two plain files are both open here, where their inodes are their own.
    fn is(self, other: Self) -> bool {
        self.inode == other.inode && (self.plain && other.plain || self.first == other.first)
    }
}

/// A file of the log, as it is or compressed.
enum Source {
    Plain(BufReader<File>),
    Packed { reader: Box<BufReader<GzDecoder<BufReader<File>>>>, identity: Identity },
}

impl Source {
    /// `None` where there is no such file. The plain one first: while both are there, the other is not finished.
    fn open(path: &Path) -> Result<Option<Self>> {
        let open = |path: &Path| match File::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err).with_context(|| format!("open {}", path.display())),
        };
        if let Some(file) = open(path)? {
            return Ok(Some(Self::Plain(BufReader::new(file))));
        }
        let Some(file) = open(&compress::packed(path))? else { return Ok(None) };
        Self::packed(file).with_context(|| format!("read {}", compress::packed(path).display())).map(Some)
    }

    fn packed(mut file: File) -> Result<Self> {
        let mut decoder = GzDecoder::new(BufReader::new(file.try_clone()?));
        let mut start = [0; BEGINNING];
        let length = fill(&mut decoder, &mut start)?;
        let comment = decoder.header().and_then(|header| header.comment()).unwrap_or_default();
        let inode = String::from_utf8_lossy(comment).parse().unwrap_or(0);
        file.seek(SeekFrom::Start(0))?;
        let reader = Box::new(BufReader::new(GzDecoder::new(BufReader::new(file))));
        Ok(Self::Packed {
            reader,
            identity: Identity { inode, first: digest(&start[..length]), plain: false },
        })
    }

    fn identity(&self) -> Option<Identity> {
        match self {
            Self::Packed { identity, .. } => Some(*identity),
            Self::Plain(reader) => {
                let mut start = [0; BEGINNING];
                let length = reader.get_ref().read_at(&mut start, 0).ok()?;
                let inode = reader.get_ref().metadata().ok()?.ino();
                Some(Identity { inode, first: digest(&start[..length]), plain: true })
            }
        }
    }

    fn read_line(&mut self, line: &mut Vec<u8>) -> std::io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read_until(b'\n', line),
            Self::Packed { reader, .. } => reader.read_until(b'\n', line),
        }
    }

    /// Goes to the last `count` lines; how many there are of them.
    fn seek_back(&mut self, count: usize) -> Result<usize> {
        let reader = match self {
            Self::Plain(reader) => return seek_back(reader.get_mut(), count),
            Self::Packed { reader, .. } => reader,
        };
        let (mut lines, mut line) = (0_usize, Vec::new());
        while reader.read_until(b'\n', &mut line).context("read the log")? > 0 {
            lines += 1;
            line.clear();
        }
        let mut file = reader.get_ref().get_ref().get_ref().try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        **reader = BufReader::new(GzDecoder::new(BufReader::new(file)));
        for _ in 0..lines.saturating_sub(count) {
            reader.read_until(b'\n', &mut line).context("read the log")?;
            line.clear();
        }
        Ok(lines.min(count))
    }
}

/// Bytes by which a beginning is known: its first time is among them.
const BEGINNING: usize = 256;

fn fill(from: &mut impl std::io::Read, buffer: &mut [u8]) -> Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

/// The log's files, newest first, each once, also while the supervisor rotates: a file only ever moves to the next
/// higher number, so counting upwards may meet one again but never misses an older one.
struct Files<'a> {
    path: &'a Path,
    number: u32,
    missing: u32,
    seen: Vec<Identity>,
}

impl<'a> Files<'a> {
    fn of(path: &'a Path) -> Self {
        Self { path, number: 0, missing: 0, seen: Vec::new() }
    }
}

impl Iterator for Files<'_> {
    type Item = Result<(Source, Identity)>;

    fn next(&mut self) -> Option<Self::Item> {
        // In the middle of a rotation one number is empty; the log ends where two are.
        while self.missing < 2 {
            let name = numbered(self.path, self.number);
            self.number += 1;
            match Source::open(&name) {
                Ok(Some(source)) => {
                    self.missing = 0;
                    let Some(identity) = source.identity() else { continue };
                    if !self.seen.iter().any(|seen| seen.is(identity)) {
                        self.seen.push(identity);
                        return Some(Ok((source, identity)));
                    }
                }
                Ok(None) => self.missing += 1,
                Err(err) => return Some(Err(err)),
            }
        }
        None
    }
}

/// A log open for reading from some line on.
pub struct Reader {
    path: std::path::PathBuf,
    /// Files still to read; the first is being read.
    open: std::collections::VecDeque<Source>,
    rest: Vec<u8>,
}

impl Reader {
    /// Opens the log at its last `tail` lines, or at its beginning.
    pub fn open(path: &Path, tail: Option<usize>) -> Result<Self> {
        let mut open = std::collections::VecDeque::new();
        let mut missing = tail;
        for found in Files::of(path) {
            let (mut source, _) = found?;
            if let Some(count) = missing {
                missing = Some(count - source.seek_back(count)?);
            }
            open.push_front(source);
            if missing == Some(0) {
                break;
            }
        }
        Ok(Self { path: path.into(), open, rest: Vec::new() })
    }

    /// The next line that is there.
    pub fn next(&mut self) -> Result<Option<Line>> {
        loop {
            let Some(source) = self.open.front_mut() else { return Ok(None) };
            let length = source.read_line(&mut self.rest).context("read the log")?;
            if self.rest.last() == Some(&b'\n') {
                let line = Line::parse(&self.rest);
                self.rest.clear();
                // A line that a power cut tore is skipped.
                if line.is_some() {
                    return Ok(line);
                }
                continue;
            }
            if length == 0 && self.open.len() > 1 {
                self.rest.clear();
                self.open.pop_front();
                continue;
            }
            if length == 0 {
                return Ok(None);
            }
        }
    }

    /// After a rotation: the files written since, behind the one being read. Whether there are any.
    pub fn refresh(&mut self) -> bool {
        let current = self.open.back().and_then(Source::identity);
        let mut newer = Vec::new();
        for (source, found) in Files::of(&self.path).flatten() {
            if current.is_some_and(|current| current.is(found)) {
                break;
            }
            newer.push(source);
        }
        let found = !newer.is_empty();
        self.open.extend(newer.into_iter().rev());
        found
    }
}

/// Puts the file at its last `count` lines; how many it has of them.
fn seek_back(file: &mut File, count: usize) -> Result<usize> {
    const BLOCK: u64 = 64 << 10;
    let mut at = file.seek(SeekFrom::End(0)).context("seek in the log")?;
    let end = at;
    let mut found = 0;
    let mut block = Vec::new();
    while at > 0 {
        let start = at.saturating_sub(BLOCK);
        block.resize(usize::try_from(at - start).unwrap_or_default(), 0);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut block).context("read the log")?;
        for (offset, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let next = start + offset as u64 + 1;
            // The newline at the very end ends the last line; each other one begins a line behind it.
            if next < end {
                found += 1;
            }
            if found == count || (count == 0 && next == end) {
                file.seek(SeekFrom::Start(if count == 0 { end } else { next }))?;
                return Ok(found.min(count));
            }
        }
        at = start;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(if end > 0 { found + 1 } else { 0 })
}

/// Wakes when the log grows or rotates, or when the container's owner ends.
pub struct Watch {
    inotify: Inotify,
    owner: Option<std::os::fd::OwnedFd>,
}

impl Watch {
    /// Watches the directory of the log.
    pub fn new(path: &Path, owner: Option<contracts::process::Process>) -> Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).context("inotify")?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        inotify
            .add_watch(dir, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE)
            .with_context(|| format!("watch {}", dir.display()))?;
        let owner = owner.map(|owner| owner.open()).transpose().context("open the supervisor")?.flatten();
        Ok(Self { inotify, owner })
    }

    /// Waits; false when the owner has ended.
    pub fn wait(&self) -> Result<bool> {
        let mut fds = vec![PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        if let Some(owner) = &self.owner {
            fds.push(PollFd::new(owner.as_fd(), PollFlags::POLLIN));
        } else {
            return Ok(false);
        }
        loop {
            match poll(&mut fds, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => {}
                other => break other.map(drop).context("poll")?,
            }
        }
        let ended = fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false));
        let _ = self.inotify.read_events();
        Ok(!ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Limits, json_file::Writer};

    fn texts(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next().unwrap()).map(|line| line.log.trim().to_owned()).collect()
    }

    #[test]
    fn tails_across_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Writer::open(&path, Limits { size: 300, files: 9, compress: false }, &[]).unwrap();
        let text: String = (1..=12).map(|number| format!("{number}\n")).collect();
        log.write(Stream::Stdout, text.as_bytes()).unwrap();
        for count in 0..=12 {
            let lines = texts(&mut Reader::open(&path, Some(count)).unwrap());
            let expected: Vec<String> = (13 - count..=12).map(|number| number.to_string()).collect();
            assert_eq!(lines, expected, "tail {count}");
        }
        assert_eq!(texts(&mut Reader::open(&path, Some(99)).unwrap()).len(), 12);
        assert_eq!(texts(&mut Reader::open(&path, None).unwrap()).len(), 12);
    }

    #[test]
    fn a_reader_follows_through_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Writer::open(&path, Limits { size: 200, files: 9, compress: false }, &[]).unwrap();
        log.write(Stream::Stdout, b"1\n").unwrap();
        let mut reader = Reader::open(&path, None).unwrap();
        assert_eq!(texts(&mut reader), ["1"]);
        log.write(Stream::Stdout, b"2\n3\n4\n5\n6\n7\n").unwrap();
        let mut lines = texts(&mut reader);
        while reader.refresh() {
            lines.extend(texts(&mut reader));
        }
        assert_eq!(lines, ["2", "3", "4", "5", "6", "7"]);
    }

    #[test]
    fn compressed_files_are_read_and_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        let mut log = Writer::open(&path, Limits { size: 200, files: 9, compress: false }, &[]).unwrap();
        let text: String = (1..=12).map(|number| format!("{number}\n")).collect();
        log.write(Stream::Stdout, text.as_bytes()).unwrap();
        let mut follower = Reader::open(&path, None).unwrap();
        assert_eq!(texts(&mut follower).len(), 12);
        for number in 1.. {
            let plain = numbered(&path, number);
            if !plain.exists() {
                break;
            }
            compress::compress(File::open(&plain).unwrap(), &compress::packed(&plain)).unwrap();
            std::fs::remove_file(plain).unwrap();
        }
        for count in 0..=12 {
            let lines = texts(&mut Reader::open(&path, Some(count)).unwrap());
            let expected: Vec<String> = (13 - count..=12).map(|number| number.to_string()).collect();
            assert_eq!(lines, expected, "tail {count}");
        }
        assert!(!follower.refresh(), "nothing new, whatever was compressed");
        // The file that it reads is compressed before it looks again.
        log.write(Stream::Stdout, b"13\n14\n15\n").unwrap();
        let plain = numbered(&path, 1);
        compress::compress(File::open(&plain).unwrap(), &compress::packed(&plain)).unwrap();
        std::fs::remove_file(plain).unwrap();
        let mut lines = texts(&mut follower);
        while follower.refresh() {
            lines.extend(texts(&mut follower));
        }
        assert_eq!(lines, ["13", "14", "15"]);
    }

    #[test]
    fn times() {
        assert!(time("2026-01-02T15:04:05Z").unwrap().starts_with("2026-01-02T15:04:05.0"));
        assert_eq!(time("0").unwrap(), "1970-01-01T00:00:00.000000000Z");
        assert!(time("10m").unwrap() < contracts::container::now() && time("2026-01-02").is_ok());
        assert!(time("bogus").is_err());
    }
}
