//! Finding and reading config.json.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::annotations;
use super::document::Document;
use super::process::Process;

/// A path of this many bytes is longer than any the kernel takes.
const LONGEST_PATH: usize = 4096;

/// The bundle's absolute path. `-` stands for a path on the first line of stdin, so that a tool which makes bundles
/// can be the left side of a pipe.
///
/// # Errors
/// A fault of kind `NotFound` where it does not exist.
pub fn bundle_path(given: &Path) -> Result<PathBuf> {
    let given = if given == Path::new("-") { first_line()? } else { given.to_owned() };
    match real(&given) {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            fault!(NotFound, "bundle {} does not exist", given.display())
        }
        other => other.with_context(|| format!("open bundle {}", given.display())),
    }
}

/// The root file system's absolute path, without symbolic links; taken off the destinations that begin with it, as runc
/// does.
///
/// # Errors
/// It is missing, or a usage fault: it is the host's root.
pub fn rootfs_path(document: &mut Document, bundle: &Path) -> Result<PathBuf> {
    let path = document.root.as_ref().map(|root| bundle.join(&root.path)).unwrap_or_default();
    let rootfs = match real(&path) {
        Ok(rootfs) if rootfs != Path::new("/") => rootfs,
        Ok(_) => fault!(Usage, "root.path: the host's root cannot be a container's"),
        Err(err) => return Err(err).with_context(|| format!("open root file system {}", path.display())),
    };
    strip_rootfs(document, &rootfs);
    Ok(rootfs)
}

/// The same for a container whose root file system's path is known.
pub fn strip_rootfs(document: &mut Document, rootfs: &Path) {
    for mount in &mut document.mounts {
        if let Ok(inside) = mount.destination.strip_prefix(rootfs) {
            mount.destination = Path::new("/").join(inside);
        }
    }
}

/// What `fs::canonicalize` says, from the kernel: realpath(3) looks at each of the names, and takes pages for the answer.
fn real(path: &Path) -> io::Result<PathBuf> {
    // Mostly it is its own answer: there is no link on the way.
    let how =
        OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let is_plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    if is_plain && openat2(AT_FDCWD, path, how).is_ok() {
        return Ok(path.components().collect());
    }
    let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A path as it is from anywhere.
///
/// # Errors
/// It is empty, or this directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("find {}", path.display()))
}

fn first_line() -> Result<PathBuf> {
    let mut line = Vec::new();
    // Byte by byte and past any buffer: what follows the first line is the container's stdin.
    let mut byte = [0];
    while line.len() < LONGEST_PATH
        && nix::unistd::read(io::stdin(), &mut byte).context("read the bundle's path from stdin")? > 0
        && byte != *b"\n"
    {
        line.push(byte[0]);
    }
    if line.is_empty() {
        fault!(Usage, "no bundle path on stdin");
    }
    Ok(std::ffi::OsString::from_vec(line).into())
}

/// Reads the bundle's config.json, or another file in its place.
///
/// # Errors
/// Faults of kind `NotFound` (no such file) and `Usage` (not JSON, or not this JSON), naming the file.
pub fn document(bundle: &Path, other: Option<&Path>) -> Result<Document> {
    let path = other.map_or_else(|| bundle.join("config.json"), Path::to_owned);
    let mut document: Document = parse(&path, &read(&path)?)?;
    annotations::apply(&mut document).with_context(|| path.display().to_string())?;
    Ok(document)
}

/// Reads the file of `exec --process`.
///
/// # Errors
/// As [`document`].
pub fn process(path: &Path) -> Result<Process> {
    parse(path, &read(path)?)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Err(err) if err.kind() == ErrorKind::NotFound => {
            fault!(NotFound, "JSON specification file {} not found", path.display())
        }
        other => other.with_context(|| format!("read {}", path.display())),
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    // Text that was checked as a whole is not checked again string by string.
    let parsed = std::str::from_utf8(bytes).map_err(anyhow::Error::new);
    match parsed.and_then(|text| Ok(serde_json::from_str(text)?)) {
        Ok(value) => Ok(value),
        Err(err) => fault!(Usage, "parse {}: {err}", path.display()),
    }
}
