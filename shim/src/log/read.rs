//! Reading a json-file log back: the last lines of many files without reading the rest, and following.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Deserialize;

use super::Stream;

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

/// The log's files, newest first, each once, also while the supervisor rotates: a file only ever moves to the next
/// higher number, so counting upwards may meet one again but never misses an older one.
struct Files<'a> {
    path: &'a Path,
    number: u32,
    missing: u32,
    seen: Vec<u64>,
}

impl<'a> Files<'a> {
    fn of(path: &'a Path) -> Self {
        Self { path, number: 0, missing: 0, seen: Vec::new() }
    }
}

impl Iterator for Files<'_> {
    type Item = Result<(File, u64)>;

    fn next(&mut self) -> Option<Self::Item> {
        // In the middle of a rotation one number is empty; the log ends where two are.
        while self.missing < 2 {
            let mut name = self.path.as_os_str().to_owned();
            if self.number > 0 {
                name.push(format!(".{}", self.number));
            }
            self.number += 1;
            let name = PathBuf::from(name);
            let opened = File::open(&name).and_then(|file| file.metadata().map(|meta| (file, meta.ino())));
            match opened {
                Ok((_, inode)) if self.seen.contains(&inode) => self.missing = 0,
                Ok((file, inode)) => {
                    self.missing = 0;
                    self.seen.push(inode);
                    return Some(Ok((file, inode)));
                }
                Err(err) if err.kind() == std::io::ErrorKind::NotFound => self.missing += 1,
                Err(err) => return Some(Err(err).with_context(|| format!("open {}", name.display()))),
            }
        }
        None
    }
}

/// A log open for reading from some line on.
pub struct Reader {
    path: PathBuf,
    /// Files still to read; the first is being read.
    open: std::collections::VecDeque<BufReader<File>>,
    rest: Vec<u8>,
}

impl Reader {
    /// Opens the log at its last `tail` lines, or at its beginning.
    pub fn open(path: &Path, tail: Option<usize>) -> Result<Self> {
        let mut open = std::collections::VecDeque::new();
        let mut missing = tail;
        for found in Files::of(path) {
            let (mut file, _) = found?;
            if let Some(count) = missing {
                missing = Some(count - seek_back(&mut file, count)?);
            }
            open.push_front(BufReader::new(file));
            if missing == Some(0) {
                break;
            }
        }
        Ok(Self { path: path.into(), open, rest: Vec::new() })
    }

    /// The next line that is there.
    pub fn next(&mut self) -> Result<Option<Line>> {
        loop {
            let Some(file) = self.open.front_mut() else { return Ok(None) };
            let length = file.read_until(b'\n', &mut self.rest).context("read the log")?;
            if self.rest.last() == Some(&b'\n') {
                let line = serde_json::from_slice(&self.rest);
                self.rest.clear();
                // A line that a power cut tore is skipped.
                if let Ok(line) = line {
                    return Ok(Some(line));
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
        let inode = |file: &File| file.metadata().map(|meta| meta.ino()).ok();
        let current = self.open.back().and_then(|file| inode(file.get_ref()));
        let mut newer = Vec::new();
        for (file, found) in Files::of(&self.path).flatten() {
            if Some(found) == current {
                break;
            }
            newer.push(file);
        }
        let found = !newer.is_empty();
        self.open.extend(newer.into_iter().rev().map(BufReader::new));
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
        let mut log = Writer::open(&path, Limits { size: 300, files: 9 }, &[]).unwrap();
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
        let mut log = Writer::open(&path, Limits { size: 200, files: 9 }, &[]).unwrap();
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
    fn times() {
        assert!(time("2026-01-02T15:04:05Z").unwrap().starts_with("2026-01-02T15:04:05.0"));
        assert_eq!(time("0").unwrap(), "1970-01-01T00:00:00.000000000Z");
        assert!(time("10m").unwrap() < contracts::container::now() && time("2026-01-02").is_ok());
        assert!(time("bogus").is_err());
    }
}
