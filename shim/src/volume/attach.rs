//! The mounts a container asked for get their host paths: volumes are made (and filled from the image), host
//! directories found.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::container::{Container, MountPoint};
use contracts::fault;
use contracts::ids::Maps;
use sys::path::Root;

use super::{Volume, data, ensure, load, lock, options};
use crate::container::{Store, make_dir, names, subpaths};
use crate::copy::owners::Owners;
use crate::copy::tree;
use crate::request::mounts::{Wish, clean};

/// The record's mount points, from the user's wishes, `--volumes-from` and the image's VOLUMEs.
pub fn resolve(
    store: &Store,
    record: &Container,
    wishes: Vec<Wish>,
    rootfs: &Root,
) -> Result<Vec<MountPoint>> {
    let mut points: Vec<MountPoint> = Vec::new();
    for text in record.host_config.volumes_from.iter().flatten() {
        for point in from_container(store, text)? {
            points.retain(|known| known.destination != point.destination);
            points.push(point);
        }
    }
    let mut wishes = wishes;
    for target in record.config.volumes.iter().flat_map(BTreeMap::keys) {
        let target = clean(target);
        let taken = wishes.iter().any(|wish| wish.point.destination == target)
            || points.iter().any(|point| point.destination == target)
            || record.host_config.tmpfs.contains_key(&target);
        if !taken {
            wishes.push(crate::request::mounts::volume(&target)?);
        }
    }
    for wish in wishes {
        points.retain(|known| known.destination != wish.point.destination);
        let point = match wish.point.kind.as_str() {
            "volume" => volume_point(store, wish, rootfs, record.host_config.id_mappings.as_ref())?,
            "bind" => bind_point(wish)?,
            _ => MountPoint { mode: wish.options.join(","), ..wish.point },
        };
        points.push(point);
    }
    let bundle = store.bundle(&record.id);
    for (index, point) in points.iter_mut().enumerate().filter(|(_, point)| !point.subpath.is_empty()) {
        point.source = subpaths::place(&bundle, index).display().to_string();
    }
    Ok(points)
}

fn from_container(store: &Store, text: &str) -> Result<Vec<MountPoint>> {
    let (name, mode) = text.split_once(':').unwrap_or((text, ""));
    if !["", "ro", "rw", "z", "Z"].contains(&mode) {
        fault!(Usage, "invalid volumesFrom specification: {text}: invalid mode: {mode}");
    }
    let mut points = store.load(&store.resolve(name)?)?.mounts;
    points.retain(|point| !["tmpfs", "image"].contains(&point.kind.as_str()));
    for point in &mut points {
        point.rw &= mode != "ro";
    }
    Ok(points)
}

fn volume_point(store: &Store, wish: Wish, rootfs: &Root, maps: Option<&Maps>) -> Result<MountPoint> {
    let mut point = wish.point;
    if point.name.is_empty() {
        point.name = names::new_id()?;
        point.anonymous = true;
    }
    let volume = Volume {
        name: point.name.clone(),
        options: wish.volume_options.iter().cloned().collect(),
        labels: wish.volume_labels.iter().cloned().collect(),
        anonymous: point.anonymous,
        ..Volume::default()
    };
    ensure(store, &volume)?;
    // Held while the volume is looked at: nobody unmounts it meanwhile.
    let lock = lock(store)?;
    let known = load(store, &point.name)?;
    known.iter().try_for_each(|volume| options::mount_one(store, volume))?;
    let source = data(store, &point.name);
    if !wish.subpath.is_empty() {
        let root = Root::open(&source)?;
        if !root.exists(Path::new(&wish.subpath)).unwrap_or(false)
            || wish.subpath.split('/').any(|part| part == "..")
        {
            fault!(NotFound, "volume {}: no such subpath: {}", point.name, wish.subpath);
        }
        point.subpath = wish.subpath;
    } else if !wish.no_copy && is_empty(&source) {
        // A volume that is still empty gets what the image has at that place, with its owner and mode.
        let owners = maps.map_or(Owners::Kept, Owners::Inside);
        tree::copy_up(rootfs, Path::new(&point.destination), &source, owners)
            .with_context(|| format!("fill volume {} from the image", point.name))?;
    }
    drop(lock);
    point.source = source.display().to_string();
    Ok(point)
}

fn is_empty(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn bind_point(wish: Wish) -> Result<MountPoint> {
    let path = Path::new(&wish.point.source);
    if !path.exists() {
        if !wish.make_source {
            fault!(
                NotFound,
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                path.display()
            );
        }
        make_dir(path)?;
    }
    Ok(wish.point)
}
