//! Putting the entries of a layer or archive into a directory, on descriptors only.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, futimens, makedev, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};
use sys::path::{Root, file_type};

use super::read::{Entry, Kind, Limits, Reader, shown};
use super::tree::{self, Tree};
use super::whiteout::{self, Mark};

/// What an archive's names mean and who owns what it makes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What `.wh.` names are.
    pub deletions: Deletions,
    /// A directory in the archive does not replace a link to one that is there.
    pub keep_links: bool,
    /// Owner of everything, whatever the archive says.
    pub owner: Option<(u32, u32)>,
    /// Bounds.
    pub limits: Limits,
}

/// What an archive's `.wh.` names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletions {
    /// Refused: the next layer made from the tree would turn them into deletions.
    Refused,
    /// Kept, in overlayfs' form: the tree is one layer.
    Kept,
    /// Done: the tree holds the layers below too.
    Done,
}

impl Options {
    /// Owners as the archive says, links replaced as by any other file.
    #[must_use]
    pub const fn new(deletions: Deletions, limits: Limits) -> Self {
        Self { deletions, keep_links: false, owner: None, limits }
    }
}

/// A directory's metadata, set at the end: entries made inside would change its time, its set-group-id bit and
/// default ACL would colour them, and a mode without write permission would stop an ordinary user.
struct Late {
    path: PathBuf,
    entry: Entry,
}

struct Applier {
    tree: Tree,
    options: Options,
    late: Vec<Late>,
    gives_away: bool,
    /// What this archive brought, where its deletions are done: they speak of what was there before.
    own: HashSet<PathBuf>,
}

/// Extracts the archive `input` below `root`, which is trusted and private to the caller until this returns.
///
/// Returns the bytes of content of all its files.
///
/// Call it on a thread of its own or in a process that makes no files elsewhere: it clears the thread's umask.
///
/// # Errors
/// A damaged archive, one over the limits, an entry that cannot be made. The tree is then half made.
pub fn apply(input: impl BufRead, root: OwnedFd, options: Options) -> Result<u64> {
    // The umask belongs to the file system context, which a thread can have for itself.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).context("unshare the umask")?;
    nix::sys::stat::umask(Mode::empty());
    let mut applier = Applier {
        tree: Tree::new(Root::from(root)),
        options,
        late: Vec::new(),
        gives_away: crate::rootless::gives_away(),
        own: HashSet::new(),
    };
    let mut reader = Reader::new(input, options.limits);
    while let Some(entry) = reader.next_entry()? {
        let name = entry.path.clone();
        applier.entry(entry, &mut reader).with_context(|| format!("entry {}", shown(&name)))?;
    }
    applier.finish()?;
    Ok(reader.bytes())
}

impl Applier {
    fn entry(&mut self, mut entry: Entry, reader: &mut Reader<impl BufRead>) -> Result<()> {
        if let Some((uid, gid)) = self.options.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        // overlayfs' own attributes would let a layer redirect names to other directories.
        entry.xattrs.retain(|(name, _)| !whiteout::is_overlay_attribute(name));
        let path = tree::clean(&entry.path)?;
        let Some(name) = path.file_name() else {
            // Archives that ADD unpacks may hold an entry without a name; there it means nothing.
            if entry.path.is_empty() && self.options.deletions == Deletions::Refused {
                return Ok(());
            }
            ensure!(!entry.path.is_empty(), "entry without a name");
            ensure!(entry.kind == Kind::Directory, "the root can only be a directory");
            self.late.push(Late { path, entry });
            return Ok(());
        };
        if let Some(mark) = whiteout::parse(name)? {
            let allowed = self.options.deletions != Deletions::Refused;
            ensure!(allowed, "the name is reserved for deletions in layers");
            return self.mark(mark, &path);
        }
        if self.options.deletions == Deletions::Done {
            self.own.extend(path.ancestors().take_while(|path| !path.as_os_str().is_empty()).map(Into::into));
        }
        let (parent, name) = match self.tree.parent(&path) {
            Err(_) if self.make_way(&path)? => self.tree.parent(&path)?,
            other => other?,
        };
        match entry.kind {
            Kind::Directory => self.directory(parent.as_fd(), name, entry, &path),
            Kind::File => self.file(parent.as_fd(), name, &entry, reader),
            Kind::HardLink => self.hard_link(parent.as_fd(), name, &entry),
            Kind::SymLink => {
                let link = OsStr::from_bytes(&entry.link);
                self.make(parent.as_fd(), name, || symlinkat(link, parent.as_fd(), name))?;
                self.own_name(parent.as_fd(), name, &entry)
            }
            Kind::Char | Kind::Block | Kind::Fifo => self.special(parent.as_fd(), name, &entry),
        }
    }

    /// Runs `create`; where the name is taken, removes what has it and runs it again.
    fn make<T>(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        create: impl Fn() -> nix::Result<T>,
    ) -> Result<T> {
        match create() {
            Err(Errno::EEXIST) => {
                self.tree.remove(parent, name)?;
                Ok(create()?)
            }
            other => Ok(other?),
        }
    }

    fn directory(&mut self, parent: BorrowedFd<'_>, name: &OsStr, entry: Entry, path: &Path) -> Result<()> {
        let private = Mode::from_bits_truncate(0o700);
        match tree::make_directory(parent, name, private) {
            Err(Errno::EEXIST) if self.options.keep_links && self.leads_to_directory(path) => return Ok(()),
            Err(Errno::EEXIST) => {
                let deleted = tree::stat_in(parent, name)?.is_some_and(|stat| tree::is_whiteout(&stat));
                self.tree.remove(parent, name)?;
                tree::make_directory(parent, name, private)?;
                // Deleted and made anew in one layer: nothing of the lower directory may show through.
                if deleted && self.options.deletions == Deletions::Kept {
                    whiteout::set_opaque(tree::open_name(parent, name)?)?;
                }
            }
            other => other?,
        }
        self.late.push(Late { path: path.to_owned(), entry });
        Ok(())
    }

    /// In a tree that holds the layers below too: what a lower layer has on the way to `path` and is no directory gives way to
    /// one. Says whether there was something.
    fn make_way(&mut self, path: &Path) -> Result<bool> {
        if self.options.deletions != Deletions::Done {
            return Ok(false);
        }
        let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.reverse();
        for above in above.into_iter().filter(|above| above.file_name().is_some()) {
            if self.leads_to_directory(above) {
                continue;
            }
            let (parent, name) = self.tree.parent(above)?;
            let there = tree::stat_in(&*parent, name)?.is_some();
            self.tree.remove(parent.as_fd(), name)?;
            return Ok(there);
        }
        Ok(false)
    }

    /// Whether a link at `path` leads to a directory inside the root.
    fn leads_to_directory(&self, path: &Path) -> bool {
        self.tree.root().open_in(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).is_ok()
    }

    fn file(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        entry: &Entry,
        reader: &mut Reader<impl BufRead>,
    ) -> Result<()> {
        // Exclusive: an existing name is replaced, never written through, be it a link, a pipe or a device.
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = tree::permissions(entry.mode & 0o1777);
        let file = self.make(parent, name, || openat(parent, name, flags, mode))?;
        loop {
            let piece = reader.content()?;
            if piece.is_empty() {
                break;
            }
            let written = match nix::unistd::write(&file, piece) {
                Err(Errno::EINTR) => 0,
                other => other.context("write")?,
            };
            reader.consume(written);
        }
        // Owner before attributes and mode: chown takes away file capabilities and setuid.
        self.own(&file, entry)?;
        self.set_attributes(&file, entry)?;
        if entry.mode & 0o6000 != 0 {
            fchmod(&file, tree::permissions(entry.mode)).context("chmod")?;
        }
        futimens(&file, &TimeSpec::UTIME_OMIT, &time(entry)).context("set time")
    }

    fn hard_link(&mut self, parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
        let target = tree::clean(&entry.link)?;
        let what = || format!("link to {}", shown(&entry.link));
        let (from, target) = self.tree.parent(&target).with_context(what)?;
        let stat = tree::stat_in(&*from, target)?;
        let stat = stat.with_context(|| format!("{}: it does not exist", what()))?;
        ensure!(!tree::is_whiteout(&stat), "{}: it is deleted in this layer", what());
        ensure!(file_type(stat.st_mode) != SFlag::S_IFDIR, "{}: it is a directory", what());
        let same = tree::stat_in(parent, name)?
            .is_some_and(|old| (old.st_dev, old.st_ino) == (stat.st_dev, stat.st_ino));
        ensure!(!same, "{}: it is the same file", what());
        self.make(parent, name, || linkat(from.as_fd(), target, parent, name, AtFlags::empty()))
            .with_context(what)
    }

    fn special(&mut self, parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
        let kind = match entry.kind {
            Kind::Char => SFlag::S_IFCHR,
            Kind::Block => SFlag::S_IFBLK,
            _ => SFlag::S_IFIFO,
        };
        if entry.kind == Kind::Char && entry.device == (0, 0) {
            bail!("a character device 0:0 would read as a deletion");
        }
        if kind != SFlag::S_IFIFO && !crate::rootless::is_real_root() {
            // An ordinary user cannot make devices, and a container's own /dev hides them anyway.
            return Ok(());
        }
        let mode = tree::permissions(entry.mode & 0o1777);
        let device = makedev(entry.device.0.into(), entry.device.1.into());
        self.make(parent, name, || mknodat(parent, name, kind, mode, device))?;
        self.own_name(parent, name, entry)
    }

    /// Owner, attributes and time of something that cannot be opened: on its name, never followed.
    fn own_name(&self, parent: BorrowedFd<'_>, name: &OsStr, entry: &Entry) -> Result<()> {
        if self.must_own(entry) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchownat(parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).context("chown")?;
        }
        if !entry.xattrs.is_empty() {
            self.set_attributes(tree::open_name(parent, name)?, entry)?;
        }
        utimensat(parent, name, &TimeSpec::UTIME_OMIT, &time(entry), UtimensatFlags::NoFollowSymlink)
            .context("set time")
    }

    fn own(&self, file: impl AsFd, entry: &Entry) -> Result<()> {
        if self.must_own(entry) {
            fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).context("chown")?;
        }
        Ok(())
    }

    /// What root makes belongs to root already; an ordinary user cannot give files away.
    fn must_own(&self, entry: &Entry) -> bool {
        self.gives_away && (entry.uid, entry.gid) != (0, 0)
    }

    fn set_attributes(&self, fd: impl AsFd, entry: &Entry) -> Result<()> {
        for (name, value) in &entry.xattrs {
            match sys::xattr::set(&fd, name, value) {
                // A file system without attributes holds the rest of the file all the same, as docker decides too.
                Err(err) if err.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => {}
                Err(err)
                    if err.raw_os_error() == Some(nix::libc::EPERM) && !crate::rootless::is_real_root() => {}
                other => other.with_context(|| format!("set attribute {}", name.display()))?,
            }
        }
        Ok(())
    }

    /// Does a deletion in a tree that holds the layers below too.
    fn delete(&mut self, mark: &Mark<'_>, path: &Path) -> Result<()> {
        let above = path.parent().unwrap_or(Path::new(""));
        // A deletion where there is nothing makes no directory.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let directory = match self.tree.root().open_in(above, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(err) if is_gone(&err) => return Ok(()),
            Err(err) => return Err(err).with_context(|| format!("open {}", above.display())),
        };
        let gone = match mark {
            Mark::Ignored => return Ok(()),
            Mark::Opaque => tree::names(&directory)?,
            Mark::Deleted(name) => vec![name.to_os_string()],
        };
        for name in gone {
            let below = above.join(&name);
            if !self.own.contains(&below) {
                self.tree.remove(directory.as_fd(), &name)?;
            } else if tree::stat_in(&directory, &name)?.is_some_and(|stat| is_directory(&stat)) {
                // Brought by this layer, with older things inside.
                self.delete(&Mark::Opaque, &below.join("x"))?;
            }
        }
        Ok(())
    }

    fn mark(&mut self, mark: Mark<'_>, path: &Path) -> Result<()> {
        if self.options.deletions == Deletions::Done {
            return self.delete(&mark, path);
        }
        let directory = self.tree.directory(path.parent().unwrap_or(Path::new("")))?;
        let name = match mark {
            Mark::Ignored => return Ok(()),
            Mark::Opaque => return whiteout::set_opaque(&*directory),
            Mark::Deleted(name) => name,
        };
        // A deletion speaks of lower layers: what this layer itself brings under the name stays.
        match tree::stat_in(&*directory, name)? {
            Some(stat) if file_type(stat.st_mode) == SFlag::S_IFDIR => {
                whiteout::set_opaque(tree::open_name(directory.as_fd(), name)?)
            }
            Some(_) => Ok(()),
            None => whiteout::make(directory.as_fd(), name),
        }
    }

    fn finish(self) -> Result<()> {
        // Deepest last in the archive is deepest first here, so that a parent's time is set after its children's.
        for late in self.late.iter().rev() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            let directory = match self.tree.root().open_in(&late.path, flags, Mode::empty()) {
                Ok(directory) => directory,
                // Replaced by a later entry.
                Err(err) if is_gone(&err) => continue,
                Err(err) => return Err(err).with_context(|| format!("open {}", late.path.display())),
            };
            self.dress(directory.as_fd(), &late.entry).with_context(|| format!("{}", late.path.display()))?;
        }
        Ok(())
    }

    fn dress(&self, directory: BorrowedFd<'_>, entry: &Entry) -> Result<()> {
        if self.gives_away {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchown(directory, Some(uid), Some(gid)).context("chown")?;
        }
        self.set_attributes(directory, entry)?;
        fchmod(directory, tree::permissions(entry.mode)).context("chmod")?;
        futimens(directory, &TimeSpec::UTIME_OMIT, &time(entry)).context("set time")
    }
}

fn is_directory(stat: &FileStat) -> bool {
    file_type(stat.st_mode) == SFlag::S_IFDIR
}

fn is_gone(err: &std::io::Error) -> bool {
    matches!(err.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::ELOOP))
}

fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.0, i64::from(entry.mtime.1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use proptest::prelude::*;

    use super::*;
    use crate::layer::write::Writer;

    /// Names that lead out if anybody follows them, and names that meet each other.
    fn name() -> impl Strategy<Value = String> {
        let part =
            prop::sample::select(vec!["a", "b", "..", ".", "", "out", ".wh.a", ".wh..wh..opq", "link"]);
        (prop::collection::vec(part, 1..5), any::<bool>())
            .prop_map(|(parts, absolute)| format!("{}{}", if absolute { "/" } else { "" }, parts.join("/")))
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let kinds = vec![Kind::File, Kind::HardLink, Kind::SymLink, Kind::Directory, Kind::Fifo];
        (name(), name(), prop::sample::select(kinds), 0..3u64).prop_map(|(path, link, kind, size)| Entry {
            path: path.into_bytes(),
            link: if link.is_empty() { b"/".to_vec() } else { link.into_bytes() },
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: if kind == Kind::File { size } else { 0 },
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
        })
    }

    fn seen(dir: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, i64)> {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                let meta = fs::symlink_metadata(&path).unwrap();
                (path, (meta.nlink(), meta.mode(), meta.mtime(), meta.mtime_nsec()))
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
        #[test]
        fn nothing_is_ever_made_or_changed_outside_the_root(
            entries in prop::collection::vec(entry(), 1..12),
            deletions in prop::sample::select(vec![Deletions::Refused, Deletions::Kept, Deletions::Done]),
            keep_links in any::<bool>(),
        ) {
            let outside = tempfile::tempdir().unwrap();
            let root = outside.path().join("in");
            fs::create_dir(&root).unwrap();
            fs::create_dir(outside.path().join("a")).unwrap();
            fs::write(outside.path().join("b"), "b").unwrap();
            fs::create_dir(outside.path().join("out")).unwrap();
            // Directly below a name that archives may try to go through.
            std::os::unix::fs::symlink(outside.path(), root.join("out")).unwrap();
            let mut before = seen(outside.path());
            before.remove(&root);
            let mut writer = Writer::new(Vec::new());
            for entry in &entries {
                writer.entry(entry, &mut &b"xyz"[..]).unwrap();
            }
            let archive = writer.finish().unwrap();
            let options = Options { deletions, keep_links, owner: None, limits: Limits::default() };
            let target = fs::File::open(&root).unwrap();
            // Refused or not: on a thread of its own, for the umask.
            let _ = std::thread::spawn(move || apply(&archive[..], target.into(), options)).join().unwrap();
            let mut after = seen(outside.path());
            after.remove(&root);
            prop_assert_eq!(before, after);
            prop_assert!(seen(&outside.path().join("a")).is_empty() && seen(&outside.path().join("out")).is_empty());
            prop_assert_eq!(fs::read(outside.path().join("b")).unwrap(), b"b");
        }
    }
}
