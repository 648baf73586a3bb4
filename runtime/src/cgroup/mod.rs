//! Control groups: made with their limits before anything of the container runs, on v1 (also hybrid) and v2.
//!
//! `layout` finds the hierarchies, `v1` and `v2` make a container's directories, `resources` turns the
//! configuration into files and values, `devices` its device rules into lists or a program. What happens to a
//! container later (`freeze`, `kill`, `stats`, `remove`) works on [`Location`], which its state file keeps.
//!
//! A cgroup namespace shows the cgroup that its maker is in at that moment, and the kernel takes the *parent's* for
//! `clone3(CLONE_NEWCGROUP)`: the child joins first and unshares then.

pub mod beneath;
mod conversion;
mod device_program;
mod device_rules;
mod devices;
mod file;
mod freezer;
mod kill;
pub mod layout;
mod mounts;
mod oom;
pub mod owner;
mod plan;
mod remove;
mod resources;
pub mod stats;
mod systemd;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use file::Dir;
pub use mounts::{Hierarchy, Mounts};
pub use oom::OomEvents;

/// What a container's cgroup is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// `linux.cgroupsPath`: absolute from each hierarchy's root, relative from our own cgroup, `None` for the id.
    pub path: Option<&'a Path>,
    /// The container's id.
    pub id: &'a str,
    /// `linux.resources`.
    pub resources: Option<&'a LinuxResources>,
    /// Go on without a cgroup where we may not make one and none was asked for by path or limit.
    pub rootless: bool,
    /// Let systemd make it (`--systemd-cgroup`); `path` is `slice:prefix:name` then.
    pub systemd: bool,
    /// Make none (`--cgroup-manager disabled`).
    pub disabled: bool,
    /// The configuration's annotations: `org.systemd.property.NAME` sets a property of the unit.
    pub annotations: Option<&'a BTreeMap<String, String>>,
}

/// A container's cgroup as its state file keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// One directory for each hierarchy; one in all on v2; none where a rootless container has no cgroup.
    pub dirs: Vec<Member>,
    /// The systemd unit that owns it, where systemd made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Its directory in systemd's own hierarchy of version 1, beside the unified one, where it is to see that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_v1: Option<Member>,
}

/// A container's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The hierarchy's controllers as `/proc/self/cgroup` lists them (`cpu,cpuacct`, `name=systemd`); empty for the
    /// unified one.
    pub controllers: String,
    /// Absolute.
    pub path: PathBuf,
}

impl Member {
    /// Whether it is in the unified (v2) hierarchy.
    #[must_use]
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Whether the hierarchy has a controller.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|one| one == controller)
    }
}

impl Location {
    /// Whether all of it is in the unified hierarchy.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.dirs.len() == 1 && self.dirs[0].is_unified()
    }

    /// The directory that has a v1 controller.
    #[must_use]
    pub fn with_controller(&self, controller: &str) -> Option<&Member> {
        self.dirs.iter().find(|dir| dir.has(controller))
    }

    /// The directory in the unified hierarchy.
    #[must_use]
    pub fn unified(&self) -> Option<&Member> {
        self.dirs.iter().find(|dir| dir.is_unified())
    }

    /// The directory that counts the container's processes: of the unified hierarchy, else of the freezer, else any.
    fn processes(&self) -> Option<&Member> {
        self.unified().or_else(|| self.with_controller("freezer")).or_else(|| self.dirs.first())
    }

    /// The cgroup below this one that `exec --cgroup` names: `PATH` for all hierarchies or, on v1,
    /// `CONTROLLER[,CONTROLLER…]:PATH` for one.
    ///
    /// # Errors
    /// A path that leaves the container's cgroup, an unknown controller.
    pub fn below(&self, asked: &[String]) -> Result<Self> {
        let mut location = self.clone();
        for one in asked {
            let (controllers, path) =
                one.split_once(':').map_or(("", one.as_str()), |(list, path)| (list, path));
            let path = Path::new(path.trim_start_matches('/'));
            if path.components().any(|part| part == std::path::Component::ParentDir) {
                fault!(Usage, "cgroup {one}: leaves the container's cgroup");
            }
            let mut found = false;
            for dir in &mut location.dirs {
                if controllers.is_empty() || controllers.split(',').any(|controller| dir.has(controller)) {
                    dir.path.push(path);
                    found = true;
                }
            }
            if !found {
                fault!(Usage, "cgroup {one}: the container has no such controller");
            }
        }
        Ok(location)
    }

    /// The pids of the container's processes, those in nested cgroups too.
    ///
    /// # Errors
    /// The cgroup cannot be read; a missing one has no processes.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(dir) = self.processes() {
            kill::collect(&dir.path, &mut pids).with_context(|| format!("list {}", dir.path.display()))?;
        }
        Ok(pids)
    }

    /// Changes limits of a running container. Devices stay as they are.
    ///
    /// # Errors
    /// A value the kernel refuses, or a limit that this kernel or this cgroup version has not; naming the file.
    pub fn update(&self, resources: &LinuxResources) -> Result<()> {
        let dirs = self.open()?;
        resources::check_usage(&dirs, resources)?;
        let resources = resources::complete(&dirs, resources);
        if let Some(unit) = &self.unit {
            self.update_unit(unit, &resources)?;
        }
        resources::apply(&dirs, &resources)
    }

    /// Tells systemd about changed limits. On version 1 it then writes the list of devices again, beginning with none:
    /// nobody is to run meanwhile.
    fn update_unit(&self, unit: &str, resources: &LinuxResources) -> Result<()> {
        let version = systemd::Version::of(self);
        let list = self.with_controller("devices").map(|member| member.path.join("devices.list"));
        let limited =
            list.is_some_and(|list| fs::read_to_string(list).is_ok_and(|text| !text.starts_with("a ")));
        let stopped = limited && !self.is_frozen()? && self.freeze().is_ok();
        let updated = systemd::update(unit, version, resources);
        if stopped {
            self.thaw()?;
        }
        updated
    }

    /// Opens the container's directories, for a process that is to join them.
    ///
    /// # Errors
    /// One is missing.
    pub fn cgroup(&self) -> Result<Cgroup> {
        let mut cgroup = Cgroup::of(self.open()?, self.clone());
        let open = |member: &Member| Dir::open(&member.controllers, &member.path);
        cgroup.systemd_v1 = self.systemd_v1.as_ref().map(open).transpose()?;
        Ok(cgroup)
    }

    fn open(&self) -> Result<Vec<Dir>> {
        self.dirs.iter().map(|dir| Dir::open(&dir.controllers, &dir.path)).collect()
    }
}

/// A cgroup with its directories open.
#[derive(Debug)]
pub struct Cgroup {
    dirs: Vec<Dir>,
    location: Location,
    /// What [`Cgroup::complete`] makes.
    later: Vec<layout::Found>,
    /// Where in each hierarchy that is.
    place: Option<layout::Place>,
    /// Of [`Location::systemd_v1`].
    systemd_v1: Option<Dir>,
    /// Keeps a systemd scope alive until the container's process is in.
    placeholder: Option<systemd::Placeholder>,
}

impl Cgroup {
    /// Makes a container's cgroup in every hierarchy, with all its limits.
    ///
    /// # Errors
    /// As [`Cgroup::prepare`] and [`Cgroup::complete`]. Nothing new is left then.
    pub fn create(request: &Request<'_>, record: impl FnOnce(&Location) -> Result<()>) -> Result<Self> {
        let mut cgroup = Self::prepare(request, record)?;
        if let Err(err) = cgroup.complete(request) {
            let _ = cgroup.made().remove();
            return Err(err);
        }
        Ok(cgroup)
    }

    /// Makes the directory in systemd's own hierarchy, too.
    fn with_systemd_v1(mut self, member: Option<Member>) -> Result<Self> {
        if let Some(member) = &member {
            let path = &member.path;
            let made = v1::make_dir(path).with_context(|| format!("create cgroup {}", path.display()));
            let opened = made.and_then(|_| Dir::open(&member.controllers, path));
            self.systemd_v1 = Some(opened.inspect_err(|_| drop(self.location.remove()))?);
        }
        self.location.systemd_v1 = member;
        Ok(self)
    }

    /// Makes the directories that are still missing, and sets the limits.
    ///
    /// # Errors
    /// A directory has processes or may not be made, or a limit cannot be set. What is there then is
    /// [`Cgroup::made`].
    pub fn complete(&mut self, request: &Request<'_>) -> Result<()> {
        let later = std::mem::take(&mut self.later);
        if let Some(place) = &self.place {
            let first = self.placeholder.as_ref().map(|placeholder| placeholder.pid);
            self.dirs.splice(..0, v1::create(&later, place, request, first)?.0);
        }
        self.limit(request)
    }

    /// What has been made of it so far.
    #[must_use]
    pub fn made(&self) -> Location {
        // What has a unit's name is the unit's.
        if self.location.unit.is_some() {
            return self.location.clone();
        }
        let member = |dir: &Dir| Member { controllers: dir.controllers.clone(), path: dir.path.clone() };
        Location {
            dirs: self.dirs.iter().map(member).collect(),
            unit: None,
            systemd_v1: self.location.systemd_v1.clone(),
        }
    }

    /// No cgroup at all; a limit that was asked for is missed then.
    fn none(request: &Request<'_>, record: impl FnOnce(&Location) -> Result<()>) -> Result<Self> {
        request.resources.map_or(Ok(()), |resources| resources::apply(&[], resources))?;
        record(&Location::default())?;
        Ok(Self::of(Vec::new(), Location::default()))
    }

    /// One that is there already.
    const fn of(dirs: Vec<Dir>, location: Location) -> Self {
        Self { dirs, location, later: Vec::new(), place: None, systemd_v1: None, placeholder: None }
    }

    fn limit(&self, request: &Request<'_>) -> Result<()> {
        if self.dirs.is_empty() {
            return Ok(());
        }
        devices::apply(&self.dirs, request.resources, request.rootless)?;
        request.resources.map_or(Ok(()), |resources| resources::apply(&self.dirs, resources))
    }

    /// The directory for `clone3(CLONE_INTO_CGROUP)`: the unified hierarchy's, also in a hybrid.
    #[must_use]
    pub fn clone_target(&self) -> Option<BorrowedFd<'_>> {
        self.dirs.iter().find(|dir| dir.is_unified()).map(|dir| dir.as_fd())
    }

    /// The `tasks` files of the v1 hierarchies, opened for the child, which joins by [`join`].
    ///
    /// # Errors
    /// One cannot be opened for writing.
    pub fn tasks(&self) -> Result<Vec<OwnedFd>> {
        let all = self.dirs.iter().chain(&self.systemd_v1);
        all.filter(|dir| !dir.is_unified()).map(|dir| dir.open_to_write("tasks")).collect()
    }

    /// What the state file keeps.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }
}

/// Whether the container can do without a cgroup: where its runtime is rootless, or root of a user namespace only.
fn may_be_none(rootless: bool) -> bool {
    rootless || sys::namespace::in_user_namespace()
}

/// Moves the calling thread into the cgroups of these `tasks` files. The process must have no other thread: `tasks`
/// instead of `cgroup.procs` spares it the kernel's global lock for moving processes.
///
/// # Errors
/// Whatever the kernel says, `ENOSPC` for a cpuset without processors.
pub fn join(tasks: &[OwnedFd]) -> io::Result<()> {
    for file in tasks {
        nix::unistd::write(file, b"0")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
