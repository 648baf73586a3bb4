//! `imgtool diff DIR` and `imgtool diff IMAGE IMAGE`: which files changed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::exit::Exit;
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use serde_json::json;
use sys::path::{Root, file_type};

use crate::build::{sweep, work};
use crate::bundle::base::Base;
use crate::bundle::record::Record;
use crate::layer::changes::{self, Change};
use crate::layer::compare::{self, Changes};
use crate::layer::extracted::Layers;
use crate::rootfs::RootFs;
use crate::rootfs::view::View;
use crate::stdout;
use crate::store::Store;
use crate::store::lease::Lease;

/// Flags of `diff`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One line a path, as docker diff writes it: A added, C changed, D deleted. Between images \
                        contents, modes and owners count, times do not.\n\
                        Examples: imgtool diff ./bundle    imgtool diff web:1 web:2"
)]
pub struct Args {
    /// A bundle's directory, or the older image
    old: String,
    /// The newer image
    new: Option<String>,
    /// A JSON array of path and kind
    #[arg(long)]
    json: bool,
}

/// # Errors
/// No bundle there; no such image; a damaged layer.
pub fn run(args: &Args) -> Result<Exit> {
    let changes = match &args.new {
        None => bundle(Path::new(&args.old)).with_context(|| format!("diff {}", args.old))?,
        Some(new) => {
            // First of all: threads started later inherit it.
            work::enter_private_mounts()?;
            let store = super::open_store()?;
            sweep::sweep(store.paths())?;
            let lease = store.lease()?;
            let (old, new) = (view(&store, &lease, &args.old)?, view(&store, &lease, new)?);
            compare::trees(&old.root, &new.root)?
        }
    };
    if args.json {
        let rows: Vec<_> = changes
            .iter()
            .map(|(change, path)| json!({ "path": format!("/{}", path.display()), "kind": kind(*change) }))
            .collect();
        stdout::line(serde_json::to_string(&rows)?)?;
        return Ok(Exit::Ok);
    }
    let lines: Vec<String> =
        changes.iter().map(|(change, path)| format!("{} /{}\n", change.letter(), path.display())).collect();
    stdout::write(&lines.concat())?;
    Ok(Exit::Ok)
}

const fn kind(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Changed => "changed",
        Change::Deleted => "deleted",
    }
}

fn view(store: &Store, lease: &Lease, text: &str) -> Result<View> {
    let image = store.image(text)?;
    let layers = image.layers()?;
    lease.hold(layers.iter().flat_map(|(blob, diff_id)| [&blob.digest, diff_id]).chain([&image.id]))?;
    View::open(store, &Layers::open(store.paths())?, &layers).with_context(|| format!("image {text}"))
}

/// Reads the upper directory only, so it costs what was changed, not what the image holds. The image may be gone: the
/// bundle holds its layers.
fn bundle(dir: &Path) -> Result<Changes> {
    let record = Record::of(dir)?;
    if record.form.plain {
        work::enter_private_mounts()?;
        let store = super::open_store()?;
        let image = store.image(&record.image_id.to_string())?;
        let base = Base::of(&store, &record, &image.layers()?)?;
        return compare::trees(base.root(), &Root::open(&RootFs::at(&record.bundle).target)?);
    }
    let store = super::open_store()?;
    let lowers = record.directories(&Layers::open(store.paths())?).context("a layer is missing")?;
    let open = |path: &PathBuf| Root::open(path).with_context(|| format!("open {}", path.display()));
    let lowers: Vec<Root> = lowers.iter().rev().map(open).collect::<Result<_>>()?;
    let upper = open(&RootFs::at(&record.bundle).upper)?;
    let mut changes = changes::list(&upper, &lowers, record.owners())?;
    changes.retain(|(change, path)| *change != Change::Added || !is_stub(&upper, path));
    Ok(changes)
}

/// Whether a runtime made it to mount on, and nobody has put anything into it: docker does not show these either.
fn is_stub(upper: &Root, path: &Path) -> bool {
    const STUBS: [&str; 11] = [
        "dev",
        "dev/console",
        "dev/mqueue",
        "dev/pts",
        "dev/shm",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "proc",
        "sbin/docker-init",
        "sys",
    ];
    if !path.to_str().is_some_and(|path| STUBS.contains(&path)) {
        return false;
    }
    let Ok(fd) = upper.open_in(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW, Mode::empty())
    else {
        return false;
    };
    let Ok(stat) = fstat(&fd) else { return false };
    match file_type(stat.st_mode) {
        SFlag::S_IFREG => stat.st_size == 0,
        // Itself and its parent.
        SFlag::S_IFDIR => Dir::from_fd(fd).is_ok_and(|mut dir| dir.iter().take(3).count() == 2),
        _ => false,
    }
}
