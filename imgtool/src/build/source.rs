//! Where COPY and ADD take files from, and the two instructions themselves.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use contracts::fault::Kind;
use contracts::passwd;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sys::path::Root;

use super::Builder;
use super::chmod::Chmod;
use super::copy::{Copier, Manner, destination};
use super::directories::{self, Dress};
use super::dockerfile::instruction::Copy;
use super::fetch;
use super::ignore::Ignore;
use super::select::{self, Selected, Tree};
use super::state::State;
use super::work::Work;
use crate::layer::read::{Limits, Reader};
use crate::layer::{apply, stream};

/// A COPY or ADD made ready to be looked up or done.
pub struct Planned {
    tree: Option<Arc<Tree>>,
    selected: Vec<Selected>,
    /// What came from URLs, and whether to unpack it: only where asked, since the name promises nothing.
    fetched: Option<(Tree, Vec<Selected>)>,
    unpack_fetched: bool,
    /// Heredocs: name, content, mode.
    files: Vec<(String, String)>,
    dest: PathBuf,
    into: bool,
    chown: Option<String>,
    chmod: Option<Chmod>,
    exclude: Ignore,
    unpack: bool,
    /// What the cache key holds.
    pub key: Value,
    /// What the history says.
    pub history: String,
}

impl Builder<'_> {
    /// Works out what a COPY or ADD copies.
    ///
    /// # Errors
    /// A source is missing; a bad flag value.
    pub(super) fn plan_copy(&self, state: &State, copy: &Copy) -> Result<Planned> {
        let expand = |text: &String| state.expand(text);
        let sources: Vec<String> = copy.sources.iter().map(expand).collect::<Result<_>>()?;
        let dest = state.expand(&copy.dest)?;
        ensure!(!dest.is_empty(), "the destination is empty");
        let chown = copy.chown.as_ref().map(expand).transpose()?.filter(|text| !text.is_empty());
        let chmod = copy.chmod.as_ref().map(expand).transpose()?.filter(|text| !text.is_empty());
        let (path, into) = destination(&dest, &state.workdir());
        let verb = if copy.add { "ADD" } else { "COPY" };
        let exclude: Vec<String> = copy.exclude.iter().map(expand).collect::<Result<_>>()?;
        let exclude = Ignore::of(exclude.iter().map(String::as_str));
        let from = copy.from.as_ref().map(expand).transpose()?;
        let (remote, local): (Vec<String>, Vec<String>) =
            sources.iter().cloned().partition(|source| copy.add && fetch::is_remote(source));
        let tree = if local.is_empty() { None } else { Some(self.tree(from.as_deref())?) };
        let (mut selected, mut hash) = (Vec::new(), Sha256::new());
        if let Some(tree) = &tree {
            selected = tree.select(&local, copy.parents)?;
            for one in &selected {
                tree.digest(one, &exclude, &mut hash)?;
            }
        }
        let mut fetched = None;
        if !remote.is_empty() {
            let checksum = copy.checksum.as_ref().map(expand).transpose()?;
            let (tree, names, work) = fetch::fetch(self, &remote, checksum.as_deref(), copy.keep_git_dir)?;
            let found = tree.select(&names, false)?;
            for one in &found {
                tree.digest(one, &exclude, &mut hash)?;
            }
            fetched = Some((tree, found));
            if let Ok(mut views) = self.views.lock() {
                views.push(work);
            }
        }
        let mut files = Vec::new();
        for doc in &copy.heredocs {
            let content = if doc.expand { state.expand_body(&doc.content)? } else { doc.content.clone() };
            hash.update(content.as_bytes());
            files.push((doc.name.clone(), content));
        }
        let unpack = copy.add && copy.unpack.unwrap_or(true);
        let key = json!({
            "copy": hash.finalize().to_vec(), "files": files.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "dest": path, "into": into, "chown": chown, "chmod": chmod, "unpack": unpack, "unpack_fetched": copy.unpack,
        });
        let chmod = match &chmod {
            None => None,
            Some(text) => {
                Some(Chmod::parse(text).with_context(|| format!("invalid chmod parameter: '{text}'"))?)
            }
        };
        let history = history(verb, copy, [&from, &chown], &sources, &dest);
        Ok(Planned {
            tree,
            selected,
            fetched,
            unpack_fetched: copy.unpack == Some(true),
            files,
            dest: path,
            into,
            chown,
            chmod,
            exclude,
            unpack,
            key,
            history,
        })
    }

    /// Copies into the mounted rootfs of `work`.
    ///
    /// # Errors
    /// See [`Copier::copy`].
    pub(super) fn place_files(&self, planned: &Planned, work: &Work) -> Result<()> {
        let root = Root::open(&work.path().join("rootfs")).context("open the rootfs")?;
        let owner = planned.chown.as_deref().map(|spec| owner(&root, spec)).transpose()?;
        let manner = Manner {
            owner,
            chmod: planned.chmod.clone(),
            exclude: planned.exclude.clone(),
            now: self.options.epoch,
        };
        if let Some(tree) = &planned.tree {
            let mut copier = Copier::new(tree, &root, &manner);
            for one in &planned.selected {
                if planned.unpack && !one.directory && unpack(tree, one, &root, &planned.dest, &manner)? {
                    continue;
                }
                copier.copy(one, &planned.dest, planned.into)?;
            }
        }
        if let Some((tree, found)) = &planned.fetched {
            let mut copier = Copier::new(tree, &root, &manner);
            for one in found {
                if !planned.unpack_fetched || !unpack(tree, one, &root, &planned.dest, &manner)? {
                    copier.copy(one, &planned.dest, planned.into)?;
                }
            }
        }
        if planned.files.is_empty() {
            return Ok(());
        }
        let docs = work.path().join("files");
        std::fs::create_dir(&docs)?;
        for (name, content) in &planned.files {
            let mut file = std::fs::File::create(docs.join(name))?;
            file.write_all(content.as_bytes())?;
            if let Some(now) = self.options.epoch {
                let time =
                    std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(now).unwrap_or(0));
                file.set_modified(time)?;
            }
            std::os::unix::fs::fchown(&file, Some(0), Some(0))?;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        }
        let tree = Tree { root: Root::open(&docs)?, ignore: Ignore::default(), owners: false };
        let mut copier = Copier::new(&tree, &root, &manner);
        for (name, _) in &planned.files {
            for one in tree.select(std::slice::from_ref(name), false)? {
                copier.copy(&one, &planned.dest, planned.into)?;
            }
        }
        Ok(())
    }
}

/// The instruction as docker's history shows it.
fn history(
    verb: &str,
    copy: &Copy,
    [from, chown]: [&Option<String>; 2],
    sources: &[String],
    dest: &str,
) -> String {
    let flags: String = [("from", from), ("chown", chown), ("chmod", &copy.chmod)]
        .iter()
        .filter_map(|(name, value)| value.as_ref().map(|value| format!("--{name}={value} ")))
        .collect();
    let docs = copy.heredocs.iter().map(|doc| doc.word.as_str());
    let names: Vec<&str> = sources.iter().map(String::as_str).chain(docs).collect();
    format!("{verb} {flags}{} {dest} # buildkit", names.join(" "))
}

/// Who owns what is made for `spec` (`--chown`, or the user of WORKDIR): a number alone is the group too, and a name that the image does not know is root, as BuildKit has it.
///
/// # Errors
/// The rootfs cannot be read.
pub(super) fn owner(root: &Root, spec: &str) -> Result<(u32, u32)> {
    if spec.is_empty() {
        return Ok((0, 0));
    }
    let known = |spec: &str| match passwd::resolve(root, spec) {
        Err(err) if Kind::of(&err) == Some(Kind::NotFound) => Ok(None),
        other => other.map(Some).with_context(|| format!("user {spec}")),
    };
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let number = !user.is_empty() && user.bytes().all(|byte| byte.is_ascii_digit());
    let (uid, own_group) = known(user)?.map_or((0, 0), |user| (user.uid, user.gid));
    let gid = match group {
        "" if number && !spec.contains(':') => uid,
        "" => own_group,
        group => known(&format!("0:{group}"))?.map_or(0, |user| user.gid),
    };
    Ok((uid, gid))
}

/// Unpacks `one` into `dest` if it is an archive. Says whether it was.
fn unpack(tree: &Tree, one: &Selected, root: &Root, dest: &Path, manner: &Manner) -> Result<bool> {
    let fd = tree.root.open_in(&one.path, OFlag::O_PATH, Mode::empty())?;
    let stat = nix::sys::stat::fstat(&fd)?;
    if sys::path::file_type(stat.st_mode) != nix::sys::stat::SFlag::S_IFREG {
        return Ok(false);
    }
    let first = |file: std::fs::File| -> Result<bool> {
        let input = std::io::BufReader::new(stream::unpack(file)?);
        Ok(matches!(Reader::new(input, Limits::default()).next_entry(), Ok(Some(_))))
    };
    // Anything that does not begin as an archive is a file like others.
    if !first(select::reopen(&fd)?).unwrap_or(false) {
        return Ok(false);
    }
    let owner = manner.owner;
    let dress = Dress { owner: owner.unwrap_or((0, 0)), time: manner.now };
    let (target, _) = directories::make(root, dest, dress)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let options =
        apply::Options { owner, ..apply::Options::new(apply::Deletions::Refused, Limits::for_blob(size)) };
    let source = select::reopen(&fd)?;
    std::thread::scope(|scope| {
        let work = || -> Result<u64> {
            let mut input = std::io::BufReader::with_capacity(128 << 10, stream::unpack(source)?);
            apply::apply(&mut input, target.as_fd().try_clone_to_owned()?, options)
        };
        scope.spawn(work).join().map_err(|_| anyhow::anyhow!("the unpacking thread ended badly"))?
    })
    .with_context(|| format!("unpack {}", one.path.display()))?;
    Ok(true)
}
