//! What this machine and this user can do: cases that need more are skipped with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// What a case cannot do without.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// cgroup version 1 (also in a hybrid).
    CgroupV1,
    /// cgroup version 2 alone.
    CgroupV2,
    /// This cgroup controller.
    Controller(&'static str),
    /// A namespace kind as in /proc/self/ns.
    Namespace(&'static str),
    /// `CAP_SYS_RESOURCE`.
    SysResource,
    /// A file of the machine.
    File(&'static str),
}

/// Facts about the machine, found once.
#[derive(Debug)]
pub struct Machine {
    /// Where the runtimes will look for cgroups: version 2 alone, or version 1 (also in a hybrid).
    pub cgroup_v2: bool,
    /// Version 1 hierarchies by controller, or every version 2 controller with the one mount.
    controllers: BTreeMap<String, PathBuf>,
    /// Capabilities of this process.
    capabilities: u64,
}

const CAP_SYS_RESOURCE: u64 = 24;

impl Machine {
    /// Looks at the machine.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn look() -> Result<Self> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
        let mut machine =
            Self { cgroup_v2: false, controllers: BTreeMap::new(), capabilities: capabilities() };
        for line in mountinfo.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            let (Some(target), mut back) = (front.split(' ').nth(4), back.split(' ')) else { continue };
            match (back.next(), target) {
                (Some("cgroup2"), "/sys/fs/cgroup") => {
                    machine.cgroup_v2 = true;
                    let names = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
                    machine.add(names.split_whitespace(), target);
                    // In every cgroup of version 2, controllers or not: eBPF and cgroup.freeze.
                    machine.add(["devices", "freezer"].into_iter(), target);
                }
                (Some("cgroup"), _) => machine.add(back.nth(1).unwrap_or_default().split(','), target),
                _ => {}
            }
        }
        Ok(machine)
    }

    fn add<'a>(&mut self, names: impl Iterator<Item = &'a str>, target: &str) {
        for name in names.filter(|name| !matches!(*name, "rw" | "ro" | "relatime" | "")) {
            self.controllers.entry(name.to_owned()).or_insert_with(|| target.into());
        }
    }

    /// Why a need is not met, if it is not.
    #[must_use]
    pub fn lacks(&self, need: Need) -> Option<String> {
        let (met, reason) = match need {
            Need::CgroupV1 => (!self.cgroup_v2, "cgroup version 1 is not in use".to_owned()),
            Need::CgroupV2 => (self.cgroup_v2, "cgroup version 2 is not in use".to_owned()),
            Need::Controller(name) => {
                (self.controllers.contains_key(name), format!("no cgroup controller {name}"))
            }
            Need::Namespace(kind) => (
                Path::new(&format!("/proc/self/ns/{kind}")).exists(),
                format!("the kernel has no {kind} namespaces"),
            ),
            Need::SysResource => {
                (self.capabilities & (1 << CAP_SYS_RESOURCE) != 0, "CAP_SYS_RESOURCE is missing".to_owned())
            }
            Need::File(path) => (Path::new(path).exists(), format!("{path} does not exist")),
        };
        (!met).then_some(reason)
    }

    /// A file of the cgroup `path` (as in `linux.cgroupsPath`) under `controller`.
    ///
    /// # Errors
    /// The controller does not exist here; cases ask for it in their needs.
    pub fn cgroup(&self, controller: &str, path: &str) -> Result<PathBuf> {
        let mount = if self.cgroup_v2 {
            Path::new("/sys/fs/cgroup")
        } else {
            self.controllers.get(controller).with_context(|| format!("no cgroup controller {controller}"))?
        };
        Ok(mount.join(path.trim_start_matches('/')))
    }

    /// Where version 2 is, alone or beside version 1.
    pub fn unified(&self) -> &'static Path {
        Path::new(if self.cgroup_v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" })
    }

    /// Every hierarchy that is mounted.
    pub fn hierarchies(&self) -> impl Iterator<Item = &Path> {
        let mut mounts: Vec<&Path> = self.controllers.values().map(PathBuf::as_path).collect();
        mounts.push(self.unified());
        mounts.sort_unstable();
        mounts.dedup();
        mounts.into_iter()
    }
}

fn capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}
