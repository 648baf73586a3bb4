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

/// `URL#REF:SUBDIRECTORY`, or `URL?ref=…&subdir=…`, in its parts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Place {
    url: String,
    reference: String,
    directory: String,
    /// What the commit's id must begin with.
    commit: String,
    keep_git_dir: bool,
    no_submodules: bool,
}

impl Place {
    fn parse(text: &str) -> Result<Self> {
        let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut place = Self { reference: reference.into(), directory: directory.into(), ..Self::default() };
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        for field in query.split('&').filter(|field| !field.is_empty()) {
            let (key, value) = field.split_once('=').unwrap_or((field, "true"));
            match key {
                "ref" => place.reference = value.into(),
                "branch" => place.reference = format!("refs/heads/{value}"),
                "tag" => place.reference = format!("refs/tags/{value}"),
                "subdir" => place.directory = value.into(),
                "checksum" | "commit" => place.commit = value.into(),
                "keep-git-dir" => place.keep_git_dir = matches!(value, "true" | "1"),
                "submodules" => place.no_submodules = matches!(value, "false" | "0"),
                other => fault!(Usage, "{text}: unexpected query \"{other}\""),
            }
        }
        if place.reference.is_empty() {
            place.reference.clone_from(&place.commit);
        }
        if place.reference.starts_with('-') || url.starts_with('-') {
            fault!(Usage, "{text}: a name that begins with a dash would be an option of git");
        }
        place.url = if url.starts_with("github.com/") { format!("https://{url}") } else { url.to_owned() };
        Ok(place)
    }
}

/// A repository that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The directory meant in it.
    pub directory: PathBuf,
    /// The id of the commit.
    pub commit: String,
}

/// Fetches the repository `text` into the new directory `into`.
///
/// # Errors
/// There is no git program, no such repository or reference.
pub fn fetch(text: &str, into: &Path, keep_git_dir: bool) -> Result<Fetched> {
    let place = Place::parse(text)?;
    fs::create_dir(into).with_context(|| format!("make {}", into.display()))?;
    git(into, &["init", "--quiet"])?;
    let wanted = if place.reference.is_empty() { "HEAD" } else { &place.reference };
    let fetch = |depth: &[&str]| {
        let rest = ["--no-tags", "--", &place.url, wanted];
        git(into, &[&["fetch", "--quiet"], depth, &rest].concat())
    };
    let fetched = fetch(&["--depth=1"]).or_else(|err| {
        // A server of plain files gives the whole history only.
        if format!("{err:#}").contains("shallow capabilities") { fetch(&[]) } else { Err(err) }
    });
    if let Err(err) = fetched {
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
    let commit = git(into, &["rev-parse", "HEAD"])?.trim().to_owned();
    if !commit.starts_with(&place.commit) {
        fault!(Remote, "{text}: expected checksum to match {}, got {commit}", place.commit);
    }
    if !place.no_submodules && fs::symlink_metadata(into.join(".gitmodules")).is_ok_and(|meta| meta.is_file())
    {
        git(into, &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"])?;
    }
    if !keep_git_dir && !place.keep_git_dir {
        let dir = into.join(".git");
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    if place.directory.is_empty() {
        return Ok(Fetched { directory: into.to_owned(), commit });
    }
    // A link in the repository must not lead out of it.
    let root = Root::open(into)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let fd = root
        .open_in(Path::new(&place.directory), flags, Mode::empty())
        .with_context(|| format!("open {} in {text}", place.directory))?;
    Ok(Fetched { directory: fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?, commit })
}

fn git(dir: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("git");
    // Nothing of the repository is executed, and nobody is asked for a password.
    command.arg("-C").arg(dir).args(["-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never"]);
    command.args(arguments).env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").stdin(Stdio::null());
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
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
            (place.url.as_str(), place.reference.as_str(), place.directory.as_str()),
            ("https://github.com/a/b", "v1", "d/e")
        );
        let place = Place::parse("https://h/a.git?tag=v2&subdir=d&keep-git-dir=1&submodules=false").unwrap();
        assert!(place.keep_git_dir && place.no_submodules && place.url == "https://h/a.git");
        assert_eq!((place.reference.as_str(), place.directory.as_str()), ("refs/tags/v2", "d"));
        assert!(Place::parse("https://h/a.git?nope=1").is_err());
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
        let fetched = |fragment: &str, name: &str| {
            fetch(&at(fragment), &dir.path().join(name), false).map(|got| got.directory)
        };
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(fetched("main:d", "branch").unwrap().join("f")), "third");
        assert_eq!(read(fetched(&head[..12], "commit").unwrap().join("d/f")), "first");
        assert!(!dir.path().join("branch/.git").exists());
        let pinned = |commit: &str, name: &str| {
            fetch(
                &format!("{}?checksum={commit}&ref=main~0", origin.display()),
                &dir.path().join(name),
                false,
            )
        };
        assert!(pinned("0000000", "wrong").is_err());
        assert!(fetched(":out", "link").is_err() && fetched("none", "none").is_err());
    }
}
