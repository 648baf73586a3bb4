//! `shim cp`

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::cli::CpFlags;
use crate::container::{Store, again, rootfs};
use crate::copy::archive::{self, Place};
use crate::copy::owners::{self, Owners};

enum Side {
    Container(String, PathBuf),
    Here(PathBuf),
    Stream,
}

pub fn run(store: &Store, flags: &CpFlags) -> Result<Exit> {
    let (source, target) = (side(&flags.source), side(&flags.target));
    let (name, id) = match (&source, &target) {
        (Side::Container(..), Side::Container(..)) => {
            fault!(Usage, "copying between containers is not supported")
        }
        (Side::Container(name, _), _) | (_, Side::Container(name, _)) => (name.clone(), store.resolve(name)?),
        _ => fault!(Usage, "must specify at least one container source"),
    };
    // Under its lock: nobody starts or removes it meanwhile.
    let bundle = store.bundle(&id);
    let (lock, status) = again::lock_settled(store, &id)?;
    // A running container is seen as its processes see it, volumes included.
    let running = rootfs::running(&status);
    let shown = if running.is_none() { Some(rootfs::show(&status, &bundle)?) } else { None };
    let inside = Place::root(&rootfs::path(&status, &bundle), &name)?;
    if running.is_some_and(|process| !process.is_running()) {
        // Its number may be another process's, with another root.
        fault!(WrongState, "container {id} has ended meanwhile");
    }
    let record = store.load(&id)?;
    let done = copy(&inside, (&source, &target), flags, record.host_config.id_mappings.as_ref());
    drop((inside, shown));
    drop(lock);
    done?;
    Ok(Exit::Ok)
}

fn copy(
    inside: &Place,
    sides: (&Side, &Side),
    flags: &CpFlags,
    maps: Option<&contracts::ids::Maps>,
) -> Result<()> {
    let (out, into) = (maps.map_or(Owners::Kept, Owners::Inside), maps.map_or(Owners::Kept, Owners::Outside));
    // Into a container files belong to its root unless -a keeps their owners; out of it to whoever copies.
    let kept = |owners| if flags.archive { owners } else { Owners::Ours };
    if let (Some(maps), Side::Container(..)) = (maps, sides.1) {
        owners::become_root_of(maps)?;
    }
    let follow = flags.follow_link;
    match sides {
        (Side::Container(_, from), Side::Stream) => {
            archive::pack(inside, from, (follow, out), &mut io::stdout().lock())
        }
        (Side::Stream, Side::Container(_, to)) => archive::unpack(&mut io::stdin().lock(), inside, to, into),
        (Side::Container(_, from), Side::Here(to)) => {
            archive::copy((inside, from), (&Place::host()?, &absolute(to)?), follow, kept(out))
        }
        (Side::Here(from), Side::Container(_, to)) => {
            archive::copy((&Place::host()?, &absolute(from)?), (inside, to), follow, kept(into))
        }
        _ => Ok(()),
    }
}

/// Keeps a trailing `/` or `/.`, which mean something.
fn absolute(path: &Path) -> Result<PathBuf> {
    let text = path.display().to_string();
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    Ok(PathBuf::from(format!("{}/{text}", std::env::current_dir()?.display())))
}

/// `NAME:PATH`, unless it plainly is a path of this host.
fn side(text: &str) -> Side {
    match text.split_once(':') {
        _ if text == "-" => Side::Stream,
        Some((name, path)) if !name.is_empty() && !text.starts_with(['/', '.']) => {
            Side::Container(name.into(), Path::new("/").join(path))
        }
        _ => Side::Here(text.into()),
    }
}
