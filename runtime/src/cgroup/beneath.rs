//! Cgroups around and below a container's own that its annotations ask for, as crun has them: one below the scope that
//! systemd made, one that is the container's to manage, and one in systemd's own hierarchy of version 1.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;

use super::file::Dir;
use super::layout::{self, Found};
use super::owner;
use super::v1::make_dir;
use super::v2::enable_controllers;
use super::{Cgroup, Member, Request};

/// Names the cgroup below the scope in which the container is, with its limits. None where empty or absent.
pub const SUBGROUP: &str = "run.oci.systemd.subgroup";
/// Names the cgroup below the container's, without limits, that the container's processes are in and that is theirs.
pub const DELEGATED: &str = "run.oci.delegate-cgroup";
/// The destination of a mount that shows systemd's own hierarchy of version 1, and it alone.
pub const SYSTEMD_V1: &str = "run.oci.systemd.force_cgroup_v1";

/// Whether `value` names a cgroup below another.
#[must_use]
pub fn is_below(value: &str) -> bool {
    Path::new(value).components().all(|part| !matches!(part, Component::ParentDir))
}

impl<'a> Request<'a> {
    fn annotation(&self, name: &str) -> Option<&'a str> {
        let value = self.annotations?.get(name)?.as_str();
        Some(value).filter(|value| !value.is_empty())
    }

    /// [`SUBGROUP`].
    pub(super) fn subgroup(&self) -> Option<&'a Path> {
        self.annotation(SUBGROUP).map(relative)
    }

    /// [`DELEGATED`].
    #[must_use]
    pub fn delegated(&self) -> Option<&'a Path> {
        self.annotation(DELEGATED).map(relative)
    }

    /// Where the container's cgroup is going to be in systemd's own hierarchy of version 1, where it is to see that on
    /// a machine whose cgroups are all of version 2.
    ///
    /// # Errors
    /// The hierarchy is not mounted.
    pub(super) fn systemd_v1(&self, name: impl FnOnce(&Found) -> PathBuf) -> Result<Option<Member>> {
        if self.annotation(SYSTEMD_V1).is_none() {
            return Ok(None);
        }
        let found = layout::systemd_v1().context(SYSTEMD_V1)?;
        let path = found.mount.join(name(&found));
        Ok(Some(Member { controllers: found.controllers, path }))
    }
}

fn relative(value: &str) -> &Path {
    Path::new(value.trim_start_matches('/'))
}

/// Makes a cgroup below `above` in the unified hierarchy, with all controllers there are, for the process `first`, which
/// goes into it: a cgroup with processes has no controllers for those below.
///
/// # Errors
/// It may not be made, or there is no such process.
pub fn make(above: &Path, name: &Path, first: Option<i32>) -> Result<Dir> {
    let path = above.join(name);
    make_dir(&path).with_context(|| format!("create cgroup {}", path.display()))?;
    let dir = Dir::open("", &path)?;
    if let Some(pid) = first {
        let into = || format!("move process {pid} into cgroup {}", path.display());
        dir.write("cgroup.procs", &pid.to_string()).with_context(into)?;
    }
    enable_controllers(above, &dir, &path)?;
    Ok(dir)
}

impl Cgroup {
    /// Moves the container's process `pid` into the cgroup that is to be its own to manage, and gives that to `user`.
    /// For a process that has its cgroup namespace, in whose root it no longer is then.
    ///
    /// # Errors
    /// The container has no cgroup in the unified hierarchy, or this one may not be made.
    pub fn delegate(&mut self, name: &Path, pid: i32, user: Option<u32>) -> Result<()> {
        self.placeholder = None;
        let Some(own) = self.dirs.iter().find(|dir| dir.is_unified()) else {
            fault!(Unsupported, "annotation {DELEGATED}: the container has no cgroup");
        };
        let dir = make(&own.path, name, Some(pid)).context(DELEGATED)?;
        user.map_or(Ok(()), |user| owner::give(&dir, user).context(DELEGATED))
    }
}
