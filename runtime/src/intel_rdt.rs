//! `linux.intelRdt`: cache and memory bandwidth allocation through the kernel's resctrl file system
//! (Documentation/filesystems/resctrl.rst), as runc uses it.
//!
//! A class of service is a directory below the mount, `schemata` its limits and `tasks` its processes; a monitoring
//! group is a directory in its `mon_groups`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::sys::statfs::{FsType, statfs};
use serde::{Deserialize, Serialize};

use crate::spec::linux::IntelRdt;

/// Where every distribution mounts it.
const USUAL: &str = "/sys/fs/resctrl";
/// `RDTGROUP_SUPER_MAGIC`.
const MAGIC: FsType = FsType(0x0765_5821);

/// A container's groups, as its state file keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The class of service.
    pub path: PathBuf,
    /// It was made for this container and goes with it.
    pub own: bool,
    /// The monitoring group in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<PathBuf>,
}

/// The mount of resctrl.
///
/// # Errors
/// A fault of kind `Unsupported` where it is not mounted.
pub fn mount() -> Result<PathBuf> {
    if statfs(USUAL).is_ok_and(|info| info.filesystem_type() == MAGIC) {
        return Ok(USUAL.into());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    match mounts.lines().find_map(mount_point) {
        Some(path) => Ok(path),
        None => fault!(Unsupported, "Intel RDT is not enabled: no resctrl file system is mounted"),
    }
}

/// The mount point of a line of mountinfo about resctrl.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    (right.split(' ').next() == Some("resctrl")).then_some(())?;
    left.split(' ').nth(4).map(PathBuf::from)
}

/// Checks what the configuration asks of the groups below `root`.
///
/// # Errors
/// A class of service that is no name; a limit that this processor has not.
pub fn check(root: &Path, wanted: &IntelRdt) -> Result<()> {
    let class = wanted.clos_id.as_str();
    if class == "." || class == ".." || (class.len() > 1 && class.contains('/')) {
        fault!(Usage, "linux.intelRdt: invalid closID {class:?}");
    }
    for (schema, field, what, info) in [
        (&wanted.l3_cache_schema, "l3CacheSchema", "Intel RDT/CAT", "L3"),
        (&wanted.mem_bw_schema, "memBwSchema", "Intel RDT/MBA", "MB"),
    ] {
        if !schema.is_empty() && !root.join("info").join(info).exists() {
            fault!(Unsupported, "linux.intelRdt.{field}: {what} is not enabled on this machine");
        }
    }
    Ok(())
}

/// Where the groups of container `id` are going to be.
#[must_use]
pub fn plan(root: &Path, wanted: &IntelRdt, id: &str) -> Group {
    let path = match wanted.clos_id.as_str() {
        "" => root.join(id),
        // The class that everybody starts in.
        "/" => root.to_owned(),
        class => root.join(class),
    };
    let monitor = wanted.enable_monitoring.then(|| path.join("mon_groups").join(id));
    let own = wanted.clos_id.is_empty() && !path.exists();
    Group { path, own, monitor }
}

impl Group {
    /// Makes them and sets their limits.
    ///
    /// # Errors
    /// A class that has to exist already and does not, no class left, a limit that the kernel refuses.
    pub fn make(&self, root: &Path, wanted: &IntelRdt) -> Result<()> {
        let schemata = schemata(wanted);
        if !wanted.clos_id.is_empty() && schemata.is_empty() && !self.path.exists() {
            fault!(
                NotFound,
                "linux.intelRdt: class {} must exist where no schemata are given",
                self.path.display()
            );
        }
        make_directory(&self.path).map_err(|err| explain(root, err))?;
        if !schemata.is_empty() {
            self.set(root, &schemata)?;
        }
        if let Some(monitor) = &self.monitor {
            make_directory(monitor).map_err(|err| explain(root, err))?;
        }
        Ok(())
    }

    /// Writes limits, one line each.
    ///
    /// # Errors
    /// The kernel's refusal, with its reason.
    pub fn set(&self, root: &Path, schemata: &str) -> Result<()> {
        let file = self.path.join("schemata");
        fs::write(&file, schemata)
            .with_context(|| format!("write {:?} to {}", schemata.trim_end(), file.display()))
            .map_err(|err| explain(root, err))
    }

    /// Puts a process into them.
    ///
    /// # Errors
    /// The kernel's refusal, with its reason.
    pub fn join(&self, pid: i32) -> Result<()> {
        for group in [Some(&self.path), self.monitor.as_ref()].into_iter().flatten() {
            let file = group.join("tasks");
            fs::write(&file, pid.to_string())
                .with_context(|| format!("write {pid} to {}", file.display()))?;
        }
        Ok(())
    }

    /// Removes what was made for the container.
    ///
    /// # Errors
    /// Naming the directory. A missing one is none.
    pub fn remove(&self) -> Result<()> {
        let own = self.own.then_some(&self.path);
        for path in [self.monitor.as_ref(), own].into_iter().flatten() {
            match fs::remove_dir(path) {
                Err(err) if err.kind() != ErrorKind::NotFound => {
                    return Err(err).with_context(|| format!("remove {}", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// All limits as the kernel takes them in one write.
#[must_use]
pub fn schemata(wanted: &IntelRdt) -> String {
    let lines = [&wanted.l3_cache_schema, &wanted.mem_bw_schema].into_iter().chain(&wanted.schemata);
    lines.filter(|line| !line.is_empty()).fold(String::new(), |all, line| all + line.trim_end() + "\n")
}

fn make_directory(path: &Path) -> Result<()> {
    match fs::create_dir(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.with_context(|| format!("make {}", path.display())),
    }
}

/// The kernel keeps a sentence about what it disliked.
fn explain(root: &Path, err: anyhow::Error) -> anyhow::Error {
    match fs::read_to_string(root.join("info/last_cmd_status")) {
        Ok(text) if !text.trim().is_empty() && text.trim() != "ok" => {
            err.context(format!("last_cmd_status: {}", text.trim()))
        }
        _ => err,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(class: &str) -> IntelRdt {
        IntelRdt {
            clos_id: class.to_owned(),
            l3_cache_schema: "L3:0=f".to_owned(),
            mem_bw_schema: "MB:0=20".to_owned(),
            schemata: vec!["L2:0=3".to_owned()],
            enable_monitoring: true,
        }
    }

    #[test]
    fn where_it_is_mounted() {
        let line = "40 31 0:30 / /mnt/rdt rw,nosuid shared:9 - resctrl resctrl rw,mba_MBps";
        assert_eq!(mount_point(line), Some("/mnt/rdt".into()));
        assert_eq!(mount_point("40 31 0:30 / /sys rw - sysfs resctrl rw"), None);
        assert_eq!(mount_point("garbage"), None);
    }

    #[test]
    fn the_lines_that_the_kernel_gets() {
        assert_eq!(schemata(&wanted("")), "L3:0=f\nMB:0=20\nL2:0=3\n");
        assert_eq!(schemata(&IntelRdt::default()), "");
    }

    #[test]
    fn limits_need_the_processor() {
        let root = tempfile::tempdir().unwrap();
        assert!(check(root.path(), &wanted("")).is_err());
        fs::create_dir_all(root.path().join("info/L3")).unwrap();
        assert!(check(root.path(), &wanted("")).is_err());
        fs::create_dir_all(root.path().join("info/MB")).unwrap();
        check(root.path(), &wanted("gold")).unwrap();
        check(root.path(), &wanted("/")).unwrap();
        for bad in [".", "..", "a/b", "/a"] {
            assert!(check(root.path(), &wanted(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_was_made_for_it_goes_with_it() {
        let root = tempfile::tempdir().unwrap();
        let own = plan(root.path(), &wanted(""), "c1");
        assert!(own.own);
        // The kernel fills a new group; here its directory for monitoring has to be there already.
        fs::create_dir_all(root.path().join("c1/mon_groups")).unwrap();
        own.make(root.path(), &wanted("")).unwrap();
        own.join(7).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("c1/schemata")).unwrap(), "L3:0=f\nMB:0=20\nL2:0=3\n");
        assert_eq!(fs::read_to_string(root.path().join("c1/tasks")).unwrap(), "7");
        assert_eq!(fs::read_to_string(root.path().join("c1/mon_groups/c1/tasks")).unwrap(), "7");
        let shared = plan(root.path(), &wanted("gold"), "c1");
        assert!(!shared.own);
        assert_eq!(plan(root.path(), &wanted("/"), "c1").path, root.path());
        let bare = IntelRdt { clos_id: "gold".to_owned(), ..IntelRdt::default() };
        assert!(plan(root.path(), &bare, "c1").make(root.path(), &bare).is_err(), "a class that must exist");
    }
}
