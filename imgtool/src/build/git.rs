//! Git repositories as contexts and as sources of ADD, fetched by the git program.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use contracts::fault;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::path::Root;

/// Whether `text` names a repository, as docker tells: by its scheme, or `http(s)://….git`.
#[must_use]
pub fn is_repository(text: &str) -> bool {
    let path = text.split(['#', '?']).next().unwrap_or_default();
    ["git@", "git://", "ssh://", "github.com/"].iter().any(|scheme| path.starts_with(scheme))
        || (["http://", "https://"].iter().any(|scheme| path.starts_with(scheme)) && path.ends_with(".git"))
}

/// `URL#REF:SUBDIRECTORY` in its parts.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    url: String,
    reference: &'a str,
    directory: &'a str,
}

impl<'a> Place<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        if reference.starts_with('-') || url.starts_with('-') {
            fault!(Usage, "{text}: a name that begins with a dash would be an option of git");
        }
        let url = if url.starts_with("github.com/") { format!("https://{url}") } else { url.to_owned() };
        Ok(Self { url, reference, directory })
    }
}

/// Fetches the repository `text` into the new directory `into`. Returns the directory meant in it.
///
/// # Errors
/// There is no git program, no such repository or reference.
pub fn fetch(text: &str, into: &Path, keep_git_dir: bool) -> Result<PathBuf> {
    let place = Place::parse(text)?;
    fs::create_dir(into).with_context(|| format!("make {}", into.display()))?;
    git(into, &["init", "--quiet"])?;
    let wanted = if place.reference.is_empty() { "HEAD" } else { place.reference };
    let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "--", &place.url, wanted];
    if let Err(err) = git(into, &shallow) {
        // A server gives by name only; a commit must be searched in the whole history.
        if !wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(err).with_context(|| format!("fetch {text}"));
        }
        let all = ["fetch", "--quiet", "--tags", "--", &place.url, "+refs/heads/*:refs/remotes/origin/*"];
        git(into, &all).with_context(|| format!("fetch {text}"))?;
        git(into, &["checkout", "--quiet", "--detach", wanted]).with_context(|| format!("fetch {text}"))?;
    } else {
        git(into, &["checkout", "--quiet", "--detach", "FETCH_HEAD"])?;
    }
    if fs::symlink_metadata(into.join(".gitmodules")).is_ok_and(|meta| meta.is_file()) {
        git(into, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
    }
    if !keep_git_dir {
        let dir = into.join(".git");
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    if place.directory.is_empty() {
        return Ok(into.to_owned());
    }
    // A link in the repository must not lead out of it.
    let root = Root::open(into)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let fd = root
        .open_in(Path::new(place.directory), flags, Mode::empty())
        .with_context(|| format!("open {} in {text}", place.directory))?;
    Ok(fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?)
}

fn git(dir: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("git");
    // Nothing of the repository is executed, and nobody is asked for a password.
    command.arg("-C").arg(dir).args(["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never"]);
    command.args(arguments).env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    let output = match command.output() {
        Ok(output) => output,
        Err(err) if err.kind() == ErrorKind::NotFound => {
            fault!(Unsupported, "git repositories need the git program, which is not here")
        }
        Err(err) => return Err(err).context("execute git"),
    };
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed");
        bail!("git {}: {last}", arguments.first().copied().unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files() {
        for text in ["git@h:a/b", "git://h/a", "ssh://h/a", "https://h/a.git#v1:d", "github.com/a/b"] {
            assert!(is_repository(text), "{text}");
        }
        for text in ["https://h/a.tgz", "dir", "http://h/x.git/file", "https://h/a#b.git"] {
            assert!(!is_repository(text), "{text}");
        }
        let place = Place::parse("github.com/a/b#v1:d/e").unwrap();
        assert_eq!(
            (place.url.as_str(), place.reference, place.directory),
            ("https://github.com/a/b", "v1", "d/e")
        );
        assert!(Place::parse("git://h/a#--upload-pack=x").is_err() && Place::parse("--x").is_err());
    }

    #[test]
    fn a_branch_a_commit_and_a_directory_are_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let origin = dir.path().join("origin");
        fs::create_dir(&origin).unwrap();
        let run = |arguments: &[&str]| git(&origin, arguments);
        if run(&["init", "--quiet", "-b", "main"]).is_err() {
            return; // no git here: `fetch` says so
        }
        let commit = |name: &str| {
            fs::create_dir_all(origin.join("d")).unwrap();
            fs::write(origin.join("d/f"), name).unwrap();
            run(&["add", "."]).unwrap();
            run(&["-c", "user.name=x", "-c", "user.email=x@x", "commit", "--quiet", "-m", name]).unwrap();
        };
        commit("first");
        let head = fs::read_to_string(origin.join(".git/refs/heads/main")).unwrap();
        commit("second");
        std::os::unix::fs::symlink("/etc", origin.join("out")).unwrap();
        commit("third");
        let at = |fragment: &str| format!("{}#{fragment}", origin.display());
        let fetched = |fragment: &str, name: &str| fetch(&at(fragment), &dir.path().join(name), false);
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(fetched("main:d", "branch").unwrap().join("f")), "third");
        assert_eq!(read(fetched(&head[..12], "commit").unwrap().join("d/f")), "first");
        assert!(!dir.path().join("branch/.git").exists());
        assert!(fetched(":out", "link").is_err() && fetched("none", "none").is_err());
    }
}
