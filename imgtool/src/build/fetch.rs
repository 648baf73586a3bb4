//! ADD of a URL: fetched into the build's own directory, then copied like any file.

use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail, ensure};
use contracts::fault;
use sha2::{Digest as _, Sha256};
use sys::path::Root;

use super::git;
use super::ignore::Ignore;
use super::select::Tree;
use super::work::Work;
use crate::registry::{Client, Flags};
use crate::store::Store;
use crate::store::digest::Digest;

/// Largest file that is fetched, in bytes.
const LARGEST: u64 = 16 << 30;

/// Whether ADD fetches this source.
pub fn is_remote(source: &str) -> bool {
    git::is_repository(source) || source.starts_with("http://") || source.starts_with("https://")
}

/// Fetches `urls` into a tree of files named after them, readable by root alone as docker makes them.
///
/// # Errors
/// A URL without a file name, a failing server, a content that is not what `checksum` says.
pub fn fetch(
    store: &Store,
    urls: &[String],
    checksum: Option<&str>,
    keep_git_dir: bool,
) -> Result<(Tree, Vec<String>, Work)> {
    let checksum = checksum.map(str::parse::<Digest>).transpose()?;
    let work = Work::new(store.paths())?;
    let mut names = Vec::new();
    for url in urls {
        if git::is_repository(url) {
            if checksum.is_some() {
                fault!(
                    Unsupported,
                    "ADD {url}: --checksum of a git repository: name the commit (URL#COMMIT)"
                );
            }
            let dir =
                git::fetch(url, &work.path().join(format!("repository-{}", names.len())), keep_git_dir)?;
            let inside = dir.strip_prefix(work.path()).context("the repository is not where it was made")?;
            names.push(inside.to_str().context("a directory of the repository is not UTF-8")?.to_owned());
            continue;
        }
        let name = name_of(url)?;
        let path = work.path().join(&name);
        let client = Client::new(store.paths(), &Flags::usual())?;
        let mut source = client.download(url)?.take(LARGEST);
        let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        io::copy(&mut source, &mut file).with_context(|| format!("fetch {url}"))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        // The day of fetching is no property of the content.
        file.set_modified(UNIX_EPOCH)?;
        if let Some(wanted) = &checksum {
            verify(&path, wanted).with_context(|| format!("ADD {url}"))?;
        }
        names.push(name);
    }
    let root = Root::open(work.path()).context("open the fetched files")?;
    Ok((Tree { root, ignore: Ignore::default(), owners: false }, names, work))
}

fn verify(path: &std::path::Path, wanted: &Digest) -> Result<()> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            len => hash.update(&buffer[..len]),
        }
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(found == wanted.hex(), "digest mismatch sha256:{found}: {wanted}");
    Ok(())
}

fn name_of(url: &str) -> Result<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let after_host =
        path.split_once("://").map_or("", |(_, rest)| rest).split_once('/').map_or("", |(_, path)| path);
    match after_host.rsplit('/').next() {
        Some(name) if !matches!(name, "" | "." | "..") && !name.contains('\0') => Ok(name.to_owned()),
        _ => bail!("ADD {url}: the URL has no file name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_path() {
        assert_eq!(name_of("http://h:1/a/b.tgz?x=/y#z").unwrap(), "b.tgz");
        for bad in ["http://h", "http://h/", "http://h/a/", "http://h/.."] {
            assert!(name_of(bad).is_err(), "{bad}");
        }
    }
}
