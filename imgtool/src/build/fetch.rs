//! ADD of a URL: fetched into the build's own directory, then copied like any file.

use std::fs::{File, Permissions};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use sha2::{Digest as _, Sha256};
use sys::path::Root;

use super::ignore::Ignore;
use super::provenance::Material;
use super::select::Tree;
use super::work::Work;
use super::{Builder, git};
use crate::registry::Client;
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
pub(super) fn fetch(
    builder: &Builder<'_>,
    urls: &[String],
    checksum: Option<&str>,
    keep_git_dir: bool,
) -> Result<(Tree, Vec<String>, Work)> {
    let paths = builder.store.paths();
    let work = Work::new(paths)?;
    let mut names = Vec::new();
    for url in urls {
        if git::is_repository(url) {
            let into = work.path().join(format!("repository-{}", names.len()));
            let got = git::fetch(url, &into, keep_git_dir)?;
            if let Some(wanted) = checksum
                && (wanted.len() < 7 || !got.commit.starts_with(wanted))
            {
                fault!(Remote, "ADD {url}: expected checksum to match {wanted}, got {}", got.commit);
            }
            let inside = got.directory.strip_prefix(work.path());
            let inside = inside.context("the repository is not where it was made")?;
            names.push(inside.to_str().context("a directory of the repository is not UTF-8")?.to_owned());
            builder.made_of(Material { uri: url.clone(), algorithm: "sha1", hex: got.commit });
            continue;
        }
        let name = name_of(url)?;
        let path = work.path().join(&name);
        let client = Client::new(paths, &builder.options.registry)?;
        let mut source = client.download(url)?.take(LARGEST);
        let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        io::copy(&mut source, &mut file).with_context(|| format!("fetch {url}"))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        // The day of fetching is no property of the content.
        file.set_modified(UNIX_EPOCH)?;
        let found = digest(&path).with_context(|| format!("ADD {url}"))?;
        if let Some(wanted) = checksum.map(str::parse::<Digest>).transpose()?
            && found != wanted.hex()
        {
            fault!(Remote, "ADD {url}: digest mismatch sha256:{found}: {wanted}");
        }
        builder.made_of(Material { uri: url.clone(), algorithm: "sha256", hex: found });
        names.push(name);
    }
    let root = Root::open(work.path()).context("open the fetched files")?;
    Ok((Tree { root, ignore: Ignore::default(), owners: false }, names, work))
}

fn digest(path: &std::path::Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            len => hash.update(&buffer[..len]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
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
