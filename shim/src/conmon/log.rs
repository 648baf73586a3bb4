//! conmon's log drivers: k8s-file, journald, none, passthrough; several at once.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Zoned;

use super::cli::Options;
use super::journal::Journal;
use crate::log::Stream;
use crate::log::batch::{Batch, Stamp};
use crate::log::lines::split;

/// Timestamp, stream and tag of a line, as the size limit counts them.
const OVERHEAD: u64 = 46;
/// A longer line comes in parts, as conmon reads no more at once.
pub const LONGEST: usize = 8192;

/// All logs of a container.
pub struct Logs {
    files: Vec<KubernetesFile>,
    journal: Option<Journal>,
}

/// CRI's format: `TIME stdout|stderr F|P text`.
struct KubernetesFile {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    size: u64,
    /// Bytes ever written.
    total: u64,
    max: u64,
    global_max: u64,
    /// Encoded lines, kept to spare allocations.
    batch: Batch,
    /// Old files that are kept; 0 where the content just goes.
    rotate: u32,
}

impl Logs {
    /// Opens what `--log-path` asks for.
    pub fn open(options: &Options) -> Result<Self> {
        let mut logs = Self { files: Vec::new(), journal: None };
        for spec in &options.log_paths {
            ensure!(!matches!(spec.as_str(), "" | ":"), "log-path must not be empty");
            // One word alone is a driver where one has that name, and else a path; `:NAME` is always a path.
            const ALONE: &[&str] = &["journald", "none", "null", "off", "passthrough", "k8s-file"];
            let (driver, path) = match spec.split_once(':') {
                Some(both) => both,
                None if ALONE.contains(&spec.as_str()) => (spec.as_str(), ""),
                None => ("", spec.as_str()),
            };
            match (driver, path) {
                ("journald", _) => logs.journal = Some(Journal::open(options)?),
                ("none" | "null" | "off" | "passthrough", _) => {}
                ("k8s-file", "") => bail!("k8s-file requires a filename"),
                ("" | "k8s-file", path) => logs.files.push(KubernetesFile::open(Path::new(path), options)?),
                (other, _) => bail!("No such log driver {other}"),
            }
        }
        let only_files = !logs.files.is_empty() && logs.journal.is_none();
        ensure!(options.log_tag.is_empty() || !only_files, "k8s-file doesn't support --log-tag");
        ensure!(options.log_labels.is_empty() || !only_files, "k8s-file doesn't support --log-label");
        Ok(logs)
    }

    /// Takes one read's bytes.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let now = if self.files.is_empty() { None } else { Some(Zoned::now()) };
        for file in &mut self.files {
            // A full disk must not stop the container; conmon loses these lines, too.
            let _ = now.as_ref().map(|now| file.write(now, stream, bytes));
        }
        if let Some(journal) = &mut self.journal {
            journal.write(stream, bytes);
        }
    }

    /// Opens the files anew: whoever rotates them has moved them away, or asks us to do it.
    pub fn reopen(&mut self) {
        for file in &mut self.files {
            let _ = if file.rotate > 0 { file.turn() } else { file.reopen(false) };
        }
    }

    /// The end: unfinished lines; with `sync` on the disk, too.
    pub fn finish(&mut self, sync: bool) {
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
        for file in &self.files {
            if sync {
                let _ = file.file.sync_all();
            }
        }
    }
}

impl KubernetesFile {
    fn open(path: &Path, options: &Options) -> Result<Self> {
        if !options.log_allowlist_dirs.is_empty() {
            let parent = path.parent().and_then(|parent| parent.canonicalize().ok()).unwrap_or_default();
            let allowed = |dir: &PathBuf| dir.canonicalize().is_ok_and(|dir| parent.starts_with(dir));
            ensure!(
                options.log_allowlist_dirs.iter().any(allowed),
                "log path {} is not in an allowed directory",
                path.display()
            );
        }
        let file = create(path, false)?;
        let size = file.metadata().context("Failed to open log file")?.len();
        Ok(Self {
            path: path.into(),
            file,
            size,
            total: size,
            batch: Batch::default(),
            max: options.log_size_max,
            global_max: options.log_global_size_max,
            rotate: if options.log_rotate { options.log_max_files.max(1) } else { 0 },
        })
    }

    fn write(&mut self, now: &Zoned, stream: Stream, bytes: &[u8]) -> Result<()> {
        if self.global_max > 0 && self.total >= self.global_max {
            return Ok(());
        }
        let word = if stream == Stream::Stdout { "stdout" } else { "stderr" };
        let stamp = now.strftime("%Y-%m-%dT%H:%M:%S%.9f%:z");
        let whole = Stamp::new(format!("{stamp} {word} F "));
        let part = Stamp::new(format!("{stamp} {word} P "));
        let mut batch = std::mem::take(&mut self.batch);
        batch.begin(bytes.len() * 2);
        let mut failed = Ok(());
        let mut each = |bytes: &[u8], line: Range<usize>| {
            let partial = !bytes[..line.end].ends_with(b"\n");
            if self.max > 0 && failed.is_ok() {
                let counted = OVERHEAD + line.len() as u64 + u64::from(partial);
                let before = self.size + batch.len() as u64;
                if before + counted > self.max && before > 0 {
                    failed = self.put(&batch).and_then(|()| self.turn());
                    batch.truncate(0);
                }
            }
            batch.stamp(if partial { &part } else { &whole });
            batch.copy(bytes, line);
            if partial {
                batch.push(b'\n');
            }
        };
        let rest = split(bytes, 0, LONGEST, &mut each);
        if rest < bytes.len() {
            each(bytes, rest..bytes.len());
        }
        failed?;
        self.put(&batch)?;
        batch.rest();
        self.batch = batch;
        Ok(())
    }

    fn put(&mut self, batch: &Batch) -> Result<()> {
        self.file.write_all(batch.bytes())?;
        self.size += batch.len() as u64;
        self.total += batch.len() as u64;
        Ok(())
    }

    /// The file has reached its limit.
    fn turn(&mut self) -> Result<()> {
        if self.rotate == 0 {
            return self.reopen(true);
        }
        let name = |number: u32| {
            let mut path = self.path.clone().into_os_string();
            if number > 0 {
                path.push(format!(".{number}"));
            }
            PathBuf::from(path)
        };
        for number in (0..self.rotate).rev() {
            let _ = std::fs::rename(name(number), name(number + 1));
        }
        self.reopen(false)
    }

    /// With `anew` an empty file takes the old one's place: readers see another inode.
    fn reopen(&mut self, anew: bool) -> Result<()> {
        if anew {
            let mut fresh = self.path.clone().into_os_string();
            fresh.push(".tmp");
            self.file = create(Path::new(&fresh), true)?;
            std::fs::rename(&fresh, &self.path).context("rename a log")?;
        } else {
            self.file = create(&self.path, false)?;
        }
        self.size = self.file.metadata()?.len();
        Ok(())
    }
}

fn create(path: &Path, truncate: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).mode(0o640).custom_flags(libc::O_CLOEXEC);
    if truncate {
        options.write(true).truncate(true)
    } else {
        options.append(true)
    };
    options.open(path).with_context(|| format!("Failed to open log file {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_and_partial_lines_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctr.log");
        let options = Options {
            log_paths: vec![format!("k8s-file:{}", path.display())],
            log_size_max: 200,
            log_rotate: true,
            log_max_files: 2,
            ..Options::default()
        };
        let mut logs = Logs::open(&options).unwrap();
        logs.write(Stream::Stdout, b"one\ntw");
        let text = std::fs::read_to_string(&path).unwrap();
        let ends: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        assert_eq!(ends, ["stdout F one", "stdout P tw"]);
        assert!(text.as_bytes()[19] == b'.' && text.as_bytes()[35 - 5] != b'Z', "{text}");
        for _ in 0..20 {
            logs.write(Stream::Stderr, b"again\n");
        }
        assert!(path.metadata().unwrap().len() <= 200);
        assert!(dir.path().join("ctr.log.2").exists() && !dir.path().join("ctr.log.3").exists());
    }

    #[test]
    fn refused() {
        let open = |spec: &str| {
            let options = Options { log_paths: vec![spec.into()], ..Options::default() };
            Logs::open(&options).err().map(|err| err.to_string()).unwrap_or_default()
        };
        assert_eq!(open("bogus:x"), "No such log driver bogus");
        assert_eq!(open("k8s-file:"), "k8s-file requires a filename");
        assert_eq!(open(""), "log-path must not be empty");
        assert_eq!(open("none"), "");
    }
}
