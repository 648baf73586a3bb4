//! The files a build may use: a directory, an archive on stdin or a server, a repository; and its Dockerfile.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use sys::path::Root;

use super::dockerfile::Source;
use super::git;
use super::ignore::Ignore;
use super::select::Tree;
use super::work::Work;
use crate::layer::read::{Limits, Reader};
use crate::layer::{apply, stream};
use crate::registry::{Client, Flags};
use crate::store::Store;

/// A Dockerfile is a text by hand; more than this is a mistake.
const LARGEST: u64 = 4 << 20;

/// A build's context.
#[derive(Debug)]
pub struct Context {
    root: Option<PathBuf>,
    ignore: Ignore,
    /// Holds an unpacked archive.
    _work: Option<Work>,
}

impl Context {
    /// A directory. `dockerfile` names the file whose own ignore file comes first.
    ///
    /// # Errors
    /// It does not exist.
    pub fn directory(path: &Path, dockerfile: Option<&Path>) -> Result<Self> {
        if !path.is_dir() {
            fault!(NotFound, "context {}: no such directory", path.display());
        }
        let root = Root::open(path).with_context(|| format!("open {}", path.display()))?;
        let own = dockerfile.map(|file| {
            let mut name = file.as_os_str().to_owned();
            name.push(".dockerignore");
            PathBuf::from(name)
        });
        // Through the root: the file may be a link (CVE-2022-4122).
        let text = match own.filter(|own| own.is_file()) {
            Some(own) => Some(fs::read(&own).with_context(|| format!("read {}", own.display()))?),
            None => read_optional(&root, ".dockerignore")?,
        };
        let ignore = text.map(|text| Ignore::parse(&String::from_utf8_lossy(&text))).unwrap_or_default();
        Ok(Self { root: Some(path.to_owned()), ignore, _work: None })
    }

    /// No files at all (the Dockerfile came alone).
    #[must_use]
    pub fn empty() -> Self {
        Self { root: None, ignore: Ignore::default(), _work: None }
    }

    /// Patterns of another file than the context's own.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn ignore_as(&mut self, path: &Path) -> Result<()> {
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        self.ignore = Ignore::parse(&String::from_utf8_lossy(&text));
        Ok(())
    }

    /// Reads stdin: an archive becomes the context, anything else is the Dockerfile itself.
    ///
    /// # Errors
    /// stdin cannot be read; the archive is damaged.
    pub fn from_stdin(store: &Store, dockerfile: Option<&str>) -> Result<(Self, Source)> {
        // Not through the standard library's buffer, which keeps what it read too much.
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        Self::from_stream(store, input, dockerfile).context("context on stdin")
    }

    /// A repository, or a file of a web server that is read like stdin.
    ///
    /// # Errors
    /// The server fails; there is no such thing; no Dockerfile in it.
    pub fn from_url(
        store: &Store,
        url: &str,
        dockerfile: Option<&str>,
        flags: &Flags,
    ) -> Result<(Self, Source)> {
        if !git::is_repository(url) {
            let input = Client::new(store.paths(), flags)?.download(url)?;
            return Self::from_stream(store, input, dockerfile).with_context(|| format!("context {url}"));
        }
        let work = Work::new(store.paths())?;
        let path = git::fetch(url, &work.path().join("context"), false)?.directory;
        Self::made(work, &path, dockerfile)
    }

    /// Files without a Dockerfile: a repository, or an archive of a web server.
    ///
    /// # Errors
    /// As [`Self::from_url`]; what the server sends is no archive.
    pub fn remote(store: &Store, url: &str, flags: &Flags) -> Result<Self> {
        let work = Work::new(store.paths())?;
        let path = work.path().join("context");
        let path = if git::is_repository(url) {
            git::fetch(url, &path, false)?.directory
        } else {
            let input = Client::new(store.paths(), flags)?.download(url)?;
            unpack(input, &path).with_context(|| format!("context {url}"))?;
            path
        };
        let mut context = Self::directory(&path, None)?;
        context._work = Some(work);
        Ok(context)
    }

    /// What holds its files, where they were fetched.
    #[must_use]
    pub fn into_work(self) -> Option<Work> {
        self._work
    }

    /// What it hides.
    #[must_use]
    pub const fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    fn from_stream(
        store: &Store,
        mut input: impl Read + Send + 'static,
        dockerfile: Option<&str>,
    ) -> Result<(Self, Source)> {
        let mut head = Vec::new();
        input.by_ref().take(LARGEST).read_to_end(&mut head).context("read")?;
        let unpacked = |bytes: &[u8]| stream::unpack(Cursor::new(bytes.to_vec())).map(BufReader::new);
        let archive = unpacked(&head[..head.len().min(64 << 10)])
            .is_ok_and(|input| matches!(Reader::new(input, Limits::default()).next_entry(), Ok(Some(_))));
        if !archive {
            let text = String::from_utf8(head).context("the Dockerfile is not UTF-8")?;
            return Ok((Self::empty(), Source { name: "Dockerfile".into(), text }));
        }
        let work = Work::new(store.paths())?;
        let path = work.path().join("context");
        // What is over the first bytes is still to come.
        unpack(Cursor::new(head).chain(input), &path)?;
        Self::made(work, &path, dockerfile)
    }

    /// A context that was made below `work`, with the Dockerfile in it.
    fn made(work: Work, path: &Path, dockerfile: Option<&str>) -> Result<(Self, Source)> {
        let name = dockerfile.unwrap_or("Dockerfile");
        let root = Root::open(path)?;
        let text = match root.read(Path::new(name), LARGEST) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                fault!(NotFound, "failed to read dockerfile: open {name}: no such file or directory")
            }
            other => other.with_context(|| format!("read {name} in the context"))?,
        };
        let text = String::from_utf8(text).with_context(|| format!("{name} is not UTF-8"))?;
        let mut context = Self::directory(path, Some(&path.join(name)))?;
        context._work = Some(work);
        Ok((context, Source { name: name.to_owned(), text }))
    }

    /// Its files.
    ///
    /// # Errors
    /// It vanished.
    pub(super) fn tree(&self) -> Result<Tree> {
        match &self.root {
            Some(path) => {
                let root = Root::open(path).with_context(|| format!("open {}", path.display()))?;
                Ok(Tree { root, ignore: self.ignore.clone(), owners: false })
            }
            None => fault!(NotFound, "there is no context: the Dockerfile came on stdin"),
        }
    }
}

/// Unpacks an archive into the new directory `path`.
fn unpack(input: impl Read + Send + 'static, path: &Path) -> Result<()> {
    fs::create_dir(path)?;
    let dir = File::open(path)?;
    let options = apply::Options::new(apply::Deletions::Refused, Limits::default());
    let input = stream::unpack(input)?;
    std::thread::scope(|scope| {
        let unpack = || {
            apply::apply(
                BufReader::with_capacity(128 << 10, input),
                dir.as_fd().try_clone_to_owned()?,
                options,
            )
        };
        scope.spawn(unpack).join().map_err(|_| anyhow::anyhow!("the unpacking thread ended badly"))?
    })
    .context("unpack")?;
    Ok(())
}

/// Reads the Dockerfile of a directory context.
///
/// # Errors
/// `NotFound`, naming it.
pub fn dockerfile(path: &Path) -> Result<Source> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            fault!(NotFound, "failed to read dockerfile: open {}: no such file or directory", path.display())
        }
        Err(err) => return Err(err).with_context(|| format!("open {}", path.display())),
    };
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text).with_context(|| format!("read {}", path.display()))?;
    let text = String::from_utf8(text).with_context(|| format!("{} is not UTF-8", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Source { name, text })
}

fn read_optional(root: &Root, name: &str) -> Result<Option<Vec<u8>>> {
    match root.read(Path::new(name), LARGEST) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(err) if err.raw_os_error() == Some(nix::libc::ENOENT) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("read {name}")),
    }
}
