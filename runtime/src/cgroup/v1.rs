//! A container's directories in the version 1 hierarchies.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;

use super::file::Dir;
use super::layout::{Found, Place};
use super::owner::may_go_without;
use super::{Location, Member, Request, remove};

/// Makes the directories. What this call made is removed again on failure; not where systemd made some of them already and
/// put the process `first` into them, which go with its unit.
pub fn create(
    hierarchies: &[Found],
    place: &Place,
    request: &Request<'_>,
    first: Option<i32>,
) -> Result<(Vec<Dir>, Location)> {
    let mut location = Location::default();
    let mut dirs = Vec::new();
    for found in hierarchies {
        let path = found.mount.join(place.in_hierarchy(found));
        match create_in(found, &path, first) {
            Ok(dir) => {
                location.dirs.push(Member { controllers: found.controllers.clone(), path });
                dirs.push(dir);
            }
            Err(err) if request.path.is_none() && may_go_without(request.rootless, &err) => {}
            Err(err) => {
                if !request.systemd {
                    let _ = remove::remove(&location);
                }
                return Err(err);
            }
        }
    }
    Ok((dirs, location))
}

fn create_in(found: &Found, path: &Path, first: Option<i32>) -> Result<Dir> {
    let made = make_dir(path).with_context(|| format!("create cgroup {}", path.display()))?;
    let dir = Dir::open(&found.controllers, path)?;
    if !made {
        refuse_if_used(&dir, first)?;
    }
    if dir.has("cpuset") {
        inherit_cpuset(&found.mount, path)?;
    }
    Ok(dir)
}

/// Makes a directory and its parents; says whether it was missing.
pub fn make_dir(path: &Path) -> io::Result<bool> {
    match fs::create_dir(path) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(err) if err.kind() == ErrorKind::NotFound => {
            make_dir(path.parent().ok_or(err)?)?;
            make_dir(path)
        }
        Err(err) => Err(err),
    }
}

/// A left-over directory is taken over, one in use by others than `ours` is not: our limits would be its processes' limits.
/// Nor is one that is frozen.
pub fn refuse_if_used(dir: &Dir, ours: Option<i32>) -> Result<()> {
    let path = dir.path.display();
    let pids = dir.read("cgroup.procs").with_context(|| format!("read cgroup {path}"))?;
    let count = pids.lines().filter(|line| line.parse().ok() != ours || ours.is_none()).count();
    // Whoever enters it stands still for good.
    let frozen = if dir.is_unified() {
        dir.read("cgroup.freeze").is_ok_and(|word| word.trim_end() == "1")
    } else {
        dir.has("freezer") && dir.read("freezer.state").is_ok_and(|word| word.trim_end() != "THAWED")
    };
    if frozen {
        fault!(Busy, "cgroup {path}: container's cgroup unexpectedly frozen");
    }
    if count > 0 {
        fault!(Busy, "cgroup {path}: container's cgroup is not empty: {count} process(es) found");
    }
    Ok(())
}

/// A new cpuset is empty, and nothing can join it: it takes its parent's processors and memory nodes.
fn inherit_cpuset(mount: &Path, path: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        inherit(mount, path, file, true)?;
    }
    Ok(())
}

fn inherit(mount: &Path, path: &Path, file: &str, is_last: bool) -> Result<String> {
    let name: PathBuf = path.join(file);
    let value = fs::read_to_string(&name).with_context(|| format!("read {}", name.display()))?;
    let parent = path.parent().filter(|_| path != mount);
    let Some(parent) = parent.filter(|_| value.trim().is_empty()) else {
        return Ok(value);
    };
    let value = inherit(mount, parent, file, false)?;
    fs::write(&name, value.trim()).with_context(|| format!("write {}", name.display()))?;
    if !is_last {
        // Whoever is made in it next finds this done (cpusets(7)): each write is compared with all siblings. Where it cannot
        // be set all works the same, by hand.
        let _ = fs::write(path.join("cgroup.clone_children"), "1");
    }
    Ok(value)
}
