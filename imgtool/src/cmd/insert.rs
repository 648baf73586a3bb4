//! `imgtool insert IMAGE SOURCE TARGET`: files of this machine as a further layer of an image.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use contracts::fault;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use sys::path::Root;

use crate::build::{sweep, work};
use crate::layer::diff;
use crate::layer::extracted::Layers;
use crate::layer::owner::{Maps, Owners, Range};
use crate::layer::pack::Packer;
use crate::layer::{tree, whiteout};
use crate::reference::Reference;
use crate::rootfs::view::View;
use crate::stdout;
use crate::store::config::History;

/// Flags of `insert`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "imgtool insert [OPTIONS] IMAGE SOURCE TARGET\n       \
                      imgtool insert [OPTIONS] --whiteout IMAGE TARGET",
    after_help = "TARGET is the name that SOURCE gets; a directory's content joins what the image has there. Links of \
                  the image on the way to TARGET are followed inside the image.\n\
                  Examples:\n  imgtool insert web ./site /srv/www\n  \
                  imgtool insert web ./conf /etc/web --opaque -t web:2\n  imgtool insert web --whiteout /etc/motd"
)]
pub struct Args {
    /// IMAGE (a name, an id or the beginning of one), SOURCE (a file or directory here), TARGET (a path in the image)
    #[arg(required = true, num_args = 1..=3, value_name = "IMAGE SOURCE TARGET")]
    words: Vec<String>,
    /// The image, as umoci wants it said
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Delete TARGET instead of putting something there
    #[arg(long)]
    whiteout: bool,
    /// Hide what the image has in the directory TARGET
    #[arg(long, conflicts_with = "whiteout")]
    opaque: bool,
    /// Name for the result, may be repeated [default: the name given, which moves]
    #[arg(short, long = "tag", value_name = "NAME")]
    tags: Vec<Reference>,
    /// Owners in the image of files that host users own
    #[arg(long, value_name = "CONTAINER:HOST:SIZE")]
    uid_map: Vec<Range>,
    /// The same for groups [default: the maps of users]
    #[arg(long, value_name = "CONTAINER:HOST:SIZE")]
    gid_map: Vec<Range>,
    /// Everything is root's in the image, whoever owns it here
    #[arg(long, conflicts_with_all = ["uid_map", "gid_map"])]
    rootless: bool,
    /// Who did it, for the history
    #[arg(long = "history.author", value_name = "TEXT")]
    author: Option<String>,
    /// A remark for the history
    #[arg(long = "history.comment", value_name = "TEXT")]
    comment: Option<String>,
    /// When, for the history, RFC 3339 [default: now]
    #[arg(long = "history.created", value_name = "TIME")]
    created: Option<jiff::Timestamp>,
    /// By what, for the history [default: this command]
    #[arg(long = "history.created_by", value_name = "TEXT")]
    created_by: Option<String>,
    /// No entry in the history
    #[arg(long, conflicts_with_all = ["author", "comment", "created", "created_by"])]
    no_history: bool,
}

/// # Errors
/// No such image; no such source; a target that cannot be; no space.
pub fn run(args: &Args) -> Result<Exit> {
    let (image, source, target) = words(args)?;
    let told =
        source.map_or_else(|| format!("--whiteout {target}"), |path| format!("{} {target}", path.display()));
    let maps = Maps::from_flags(&args.uid_map, &args.gid_map)?;
    let owners = match &maps {
        Some(maps) => Owners::Inside(maps),
        None if args.rootless => Owners::Root,
        None => Owners::Kept,
    };
    // Before the mounts: a path that leads through them must not change its meaning.
    let source = source.map(Source::open).transpose()?;
    // First of all: threads started later inherit it.
    work::enter_private_mounts()?;
    let store = super::open_store()?;
    sweep::sweep(store.paths())?;
    let image = store.image(image)?;
    let mut layers = image.layers()?;
    let lease = store.lease()?;
    lease.hold(layers.iter().flat_map(|(blob, diff_id)| [&blob.digest, diff_id]).chain([&image.id]))?;
    let view = View::open(&store, &Layers::open(store.paths())?, &layers)?;
    let joins = source.as_ref().is_some_and(|source| source.directory);
    let place = resolve(&view, &tree::clean(target.as_bytes())?, joins)?;
    let what = diff::Inserted {
        source: source.as_ref().map(|source| (source.parent.as_fd(), source.name.as_os_str())),
        target: &place,
        opaque: args.opaque,
    };
    let options = diff::Options { owners, ..diff::Options::default() };
    let (packer, content) = diff::insert(&what, &options, Packer::start(&store)?)
        .with_context(|| format!("insert {told} into {}", image.title()))?;
    let packed = packer.finish(&lease)?;
    store.note_unpacked(&packed.blob.digest, content);
    let mut config = image.config.clone();
    let created = args.created.unwrap_or_else(jiff::Timestamp::now).to_string();
    config.created = Some(created.clone());
    if !args.no_history {
        config.history.push(History {
            created: Some(created),
            created_by: Some(args.created_by.clone().unwrap_or_else(|| format!("imgtool insert {told}"))),
            author: args.author.clone(),
            comment: args.comment.clone(),
            ..History::default()
        });
    }
    layers.push((packed.blob, packed.diff_id));
    config.rootfs.diff_ids = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
    let names = image.names_when_edited(&args.tags);
    let blobs = layers.into_iter().map(|(blob, _)| blob).collect();
    let made = store.add_image(&lease, &config.to_bytes()?, blobs, &names)?;
    stdout::line(made.id.to_string())?;
    Ok(Exit::Ok)
}

/// Image, source (none for a deletion) and target.
fn words(args: &Args) -> Result<(&str, Option<&Path>, &str)> {
    let mut words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    if let Some(image) = &args.image {
        words.insert(0, image);
    }
    let found = match (words.as_slice(), args.whiteout) {
        ([image, source, target], false) => (*image, Some(Path::new(*source)), *target),
        ([image, target], true) => (*image, None, *target),
        (_, true) => fault!(Usage, "insert --whiteout takes an image and one path in it"),
        (_, false) => fault!(Usage, "insert takes an image, a source and a target"),
    };
    let target = tree::clean(found.2.as_bytes())?;
    if (args.whiteout || args.opaque) && target.as_os_str().is_empty() {
        fault!(Usage, "the root of an image cannot be deleted or hidden");
    }
    if whiteout::parse(target.file_name().unwrap_or_default())?.is_some() {
        fault!(Usage, "{}: names that begin with .wh. mean deletions in layers", found.2);
    }
    if let Some(source) = found.1 {
        let looks = std::fs::symlink_metadata(source);
        let is_directory = match looks {
            Ok(looks) => looks.is_dir(),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
                fault!(NotFound, "{} does not exist", source.display())
            }
            Err(err) => return Err(err).with_context(|| format!("stat {}", source.display())),
        };
        if args.opaque && !is_directory {
            fault!(Usage, "--opaque takes a directory, and {} is none", source.display());
        }
        if target.as_os_str().is_empty() && !is_directory {
            fault!(Usage, "only a directory can be put at the root of an image");
        }
    }
    Ok(found)
}

/// What is put in, by a descriptor of the directory that it is in.
struct Source {
    parent: File,
    name: PathBuf,
    directory: bool,
}

impl Source {
    fn open(path: &Path) -> Result<Self> {
        let directory =
            std::fs::symlink_metadata(path).with_context(|| format!("stat {}", path.display()))?.is_dir();
        let (parent, name) = match (path.parent(), path.file_name()) {
            // `/`, `.` and `..` have no name of their own.
            (_, None) => (path, Path::new(".")),
            (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (Path::new("."), Path::new(name)),
            (parent, Some(name)) => (parent.unwrap_or(Path::new("/")), Path::new(name)),
        };
        let opened = File::open(parent).with_context(|| format!("open {}", parent.display()))?;
        Ok(Self { parent: opened, name: name.to_owned(), directory })
    }
}

/// `target` with the links of the image followed (the last name's too where a directory `joins` what is there), so that
/// `/lib/x` does not replace an image's link `/lib` by a directory.
fn resolve(view: &View, target: &Path, joins: bool) -> Result<PathBuf> {
    let mut known = if joins { target } else { target.parent().unwrap_or(Path::new("")) };
    let base = path_of(&view.root, Path::new(""))?.unwrap_or_default();
    loop {
        if let Some(found) = path_of(&view.root, known)? {
            let inside = found.strip_prefix(&base).context("find the target in the image")?;
            let rest = target.strip_prefix(known).context("find the target in the image")?;
            return Ok(inside.join(rest));
        }
        known = known.parent().unwrap_or(Path::new(""));
    }
}

/// Where the directory `path` of the image is once all links are followed; `None` where there is none.
fn path_of(root: &Root, path: &Path) -> Result<Option<PathBuf>> {
    let fd = match root.open_in(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()) {
        Ok(fd) => fd,
        Err(_) if !path.as_os_str().is_empty() => return Ok(None),
        Err(err) => return Err(err).context("open the image's root"),
    };
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    Ok(Some(std::fs::read_link(&link).with_context(|| format!("read {link}"))?))
}
