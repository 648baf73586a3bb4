//! `shim cp`

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::cli::CpFlags;
use crate::container::unmount::unmount;
use crate::container::{Store, again};
use crate::copy::archive::{self, Place};
use crate::tools;

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
    // A stopped container's files are mounted for the copy, under its lock: nobody starts or removes it meanwhile.
    let bundle = store.bundle(&id);
    let (lock, status) = again::lock_settled(store, &id)?;
    let live = status.state.is_live();
    let mounted_here = !tools::is_mounted(&bundle);
    if mounted_here {
        tools::mount(&bundle)?;
    }
    // A running container is seen as its processes see it, volumes included.
    let root = match status.process {
        Some(process) if live => PathBuf::from(format!("/proc/{}/root", process.pid)),
        _ => bundle.join("rootfs"),
    };
    let inside = Place::root(&root, &name)?;
    let done = match (&source, &target) {
        (Side::Container(_, from), Side::Stream) => {
            archive::pack(&inside, from, flags.follow_link, &mut io::stdout().lock())
        }
        (Side::Stream, Side::Container(_, to)) => archive::unpack(&mut io::stdin().lock(), &inside, to),
        (Side::Container(_, from), Side::Here(to)) => archive::copy(
            (&inside, from),
            (&Place::host()?, &absolute(to)?),
            flags.follow_link,
            flags.archive,
        ),
        (Side::Here(from), Side::Container(_, to)) => archive::copy(
            (&Place::host()?, &absolute(from)?),
            (&inside, to),
            flags.follow_link,
            flags.archive,
        ),
        _ => Ok(()),
    };
    // It holds the mount.
    drop(inside);
    if mounted_here && !live {
        unmount(&bundle)?;
    }
    drop(lock);
    done?;
    Ok(Exit::Ok)
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
