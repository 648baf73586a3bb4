//! A container's directory in the unified hierarchy.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::file::Dir;
use super::layout::{Found, Place};
use super::owner::may_go_without;
use super::v1::{make_dir, refuse_if_used};
use super::{Location, Member, Request};

/// Makes the directory, with every controller there is enabled down to it.
pub fn create(root: &Found, place: &Place, request: &Request<'_>) -> Result<(Vec<Dir>, Location)> {
    let path = root.mount.join(place.in_hierarchy(root));
    let made = make_dir(&path).with_context(|| format!("create cgroup {}", path.display()));
    let made = match made {
        Err(err) if request.path.is_none() && may_go_without(request.rootless, &err) => {
            return Ok((Vec::new(), Location::default()));
        }
        other => other?,
    };
    let dir = Dir::open("", &path)?;
    if made {
        enable_controllers(&root.mount, &dir, &path)?;
    } else {
        refuse_if_used(&dir, None)?;
    }
    let location =
        Location { dirs: vec![Member { controllers: String::new(), path }], ..Location::default() };
    Ok((vec![dir], location))
}

/// Enables each controller of the root for the children of every cgroup between it and `dir`, which is at `path`; mostly
/// it has them all already. One that cannot be enabled (not delegated) is left out: a limit that needs it says so when it
/// is set.
///
/// A cgroup with processes of its own (that of a container whose processes make containers) takes the threaded
/// controllers alone, and no process could enter a cgroup below it any more: it is left as it is.
pub fn enable_controllers(mount: &Path, dir: &Dir, path: &Path) -> Result<()> {
    let root = Dir::open("", mount)?;
    let read = |dir: &Dir| dir.read("cgroup.controllers").with_context(|| dir.name_of("cgroup.controllers"));
    let available = read(&root)?;
    if missing(&available, &read(dir)?).next().is_none() {
        return Ok(());
    }
    let below = path.strip_prefix(mount).unwrap_or(Path::new(""));
    let mut at = mount.to_owned();
    for part in below.components() {
        let dir = Dir::open("", &at)?;
        let enabled = dir.read("cgroup.subtree_control").unwrap_or_default();
        let missing: Vec<String> = missing(&available, &enabled).map(|one| format!("+{one}")).collect();
        let all =
            if missing.is_empty() { Ok(()) } else { dir.write("cgroup.subtree_control", &missing.join(" ")) };
        if all.is_err_and(|err| err.kind() != ErrorKind::ResourceBusy) {
            for one in &missing {
                let _ = dir.write("cgroup.subtree_control", one);
            }
        }
        at.push(part);
    }
    Ok(())
}

/// Controllers that only the first of two lists has.
fn missing<'a>(available: &'a str, enabled: &'a str) -> impl Iterator<Item = &'a str> {
    let is_enabled = |one: &&str| enabled.split_ascii_whitespace().any(|other| other == *one);
    available.split_ascii_whitespace().filter(move |one| !is_enabled(one))
}
