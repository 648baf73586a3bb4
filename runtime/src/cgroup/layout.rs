//! Which hierarchies this machine has, where they are mounted and where we stand in them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, TMPFS_MAGIC, statfs};

/// Where the hierarchies are mounted, by convention of every distribution.
pub const BASE: &str = "/sys/fs/cgroup";
/// systemd's own hierarchy of version 1.
pub const SYSTEMD: &str = "name=systemd";

/// The machine's hierarchies.
#[derive(Debug)]
pub enum Layout {
    /// Version 1, with or without the unified hierarchy beside it (then the last).
    V1(Vec<Found>),
    /// The unified hierarchy alone.
    V2(Found),
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As `/proc/self/cgroup` lists them; empty for the unified hierarchy.
    pub controllers: String,
    /// The mount point.
    pub mount: PathBuf,
    /// Our own cgroup, below the mount point; empty where nobody asked.
    pub own: PathBuf,
}

/// A container's place: the same in every hierarchy, or below our own cgroup in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Below each mount point.
    FromRoot(PathBuf),
    /// Below our own cgroup (v1), beside it (v2: processes may not stand above others).
    FromOwn(PathBuf),
}

impl Place {
    /// The directory in one hierarchy, without a leading slash.
    pub fn in_hierarchy(&self, found: &Found) -> PathBuf {
        match self {
            Self::FromRoot(path) => path.clone(),
            Self::FromOwn(path) if found.controllers.is_empty() && found.mount == Path::new(BASE) => {
                found.own.parent().unwrap_or(Path::new("")).join(path)
            }
            Self::FromOwn(path) => found.own.join(path),
        }
    }
}

impl Layout {
    /// Reads `/proc/self/cgroup`, and `/proc/self/mountinfo` only for hierarchies that are not where all have them.
    ///
    /// # Errors
    /// No hierarchy is mounted.
    pub fn find() -> Result<Self> {
        Self::find_for(None)
    }

    /// The same for a container with that `cgroupsPath`: version 2 alone need not be asked where we stand for an absolute one.
    ///
    /// # Errors
    /// No hierarchy is mounted.
    pub fn find_for(path: Option<&Path>) -> Result<Self> {
        let own = || fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup");
        match statfs(BASE).map(|stat| stat.filesystem_type()) {
            Ok(CGROUP2_SUPER_MAGIC) if path.is_some_and(Path::is_absolute) => {
                Ok(Self::V2(found("", Path::new(BASE).into(), "")))
            }
            Ok(CGROUP2_SUPER_MAGIC) => {
                let own = own()?;
                let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
                Ok(Self::V2(found("", Path::new(BASE).into(), path)))
            }
            Ok(TMPFS_MAGIC) => Self::find_v1(&own()?),
            Ok(_) => fault!(Unsupported, "{BASE}: neither cgroup v1 nor v2 is mounted"),
            Err(err) => Err(err).context(BASE),
        }
    }

    fn find_v1(own: &str) -> Result<Self> {
        let mut mounts = None;
        let mut hierarchies = Vec::new();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let name = controllers.strip_prefix("name=").unwrap_or(controllers);
            let name = if name.is_empty() { "unified" } else { name };
            let usual = Path::new(BASE).join(name);
            let magic = if controllers.is_empty() { CGROUP2_SUPER_MAGIC } else { CGROUP_SUPER_MAGIC };
            let mounted = is_mount_of(&usual, magic);
            if mounted && (path == "/" || usual.join(path.trim_start_matches('/')).exists()) {
                hierarchies.push(found(controllers, usual, path));
                continue;
            }
            // Beside version 1 the unified hierarchy is there or nowhere, as runc sees it: a machine without it would
            // have all its mounts read for nothing, and with thousands of them that is most of the time.
            if controllers.is_empty() && !mounted {
                continue;
            }
            let mounts = match &mounts {
                Some(mounts) => mounts,
                None => mounts.insert(read_mounts()?),
            };
            // A hierarchy that the kernel has and nobody mounted is none of ours; one that is covered is listed, too.
            let seen = |mount: &&Mount| mount.is_of(controllers) && is_mount_of(&mount.at, magic);
            if let Some(mount) = mounts.iter().find(seen) {
                let below = Path::new(path).strip_prefix(&mount.root).unwrap_or(Path::new(""));
                let below = below.to_path_buf();
                hierarchies.push(Found {
                    controllers: controllers.to_owned(),
                    mount: mount.at.clone(),
                    own: below,
                });
            }
        }
        if hierarchies.is_empty() {
            fault!(Unsupported, "{BASE}: no cgroup hierarchy is mounted");
        }
        Ok(Self::V1(hierarchies))
    }
}

/// Where `cgroupsPath` leads, as in runc; `..` is resolved without leaving the root.
///
/// # Errors
/// A path without any name, which would be the root cgroup itself.
pub fn relative_path(path: Option<&Path>, id: &str) -> Result<Place> {
    let path = path.filter(|path| !path.as_os_str().is_empty());
    let Some(path) = path else {
        return Ok(Place::FromOwn(id.into()));
    };
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    if clean.as_os_str().is_empty() {
        fault!(Usage, "cgroupsPath {}: names no cgroup", path.display());
    }
    Ok(if path.is_absolute() { Place::FromRoot(clean) } else { Place::FromOwn(clean) })
}

/// systemd's own hierarchy of version 1, which has no controllers and may be mounted beside the unified one.
///
/// # Errors
/// It is not.
pub fn systemd_v1() -> Result<Found> {
    let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
    let line = own.lines().find(|line| line.split(':').nth(1) == Some(SYSTEMD));
    match line.map(Layout::find_v1) {
        Some(Ok(Layout::V1(mut found))) if !found.is_empty() => Ok(found.remove(0)),
        _ => fault!(
            Unsupported,
            "the hierarchy {SYSTEMD} of cgroup version 1 is not mounted (in {BASE}/systemd)"
        ),
    }
}

fn found(controllers: &str, mount: PathBuf, own: &str) -> Found {
    Found { controllers: controllers.to_owned(), mount, own: own.trim_start_matches('/').into() }
}

fn is_mount_of(path: &Path, magic: FsType) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == magic)
}

/// A line of `/proc/self/mountinfo` about a cgroup file system.
#[derive(Debug)]
pub struct Mount {
    root: PathBuf,
    at: PathBuf,
    unified: bool,
    options: String,
}

impl Mount {
    /// Whether it is the hierarchy of these controllers, as `/proc/self/cgroup` lists them.
    pub fn is_of(&self, controllers: &str) -> bool {
        if controllers.is_empty() {
            return self.unified;
        }
        let mut options = self.options.split(',');
        !self.unified && controllers.split(',').all(|controller| options.any(|option| option == controller))
    }
}

fn read_mounts() -> Result<Vec<Mount>> {
    let text = match fs::read_to_string("/proc/self/mountinfo") {
        Err(err) if err.kind() == ErrorKind::NotFound => String::new(),
        other => other.context("read /proc/self/mountinfo")?,
    };
    Ok(text.lines().filter_map(parse_mount).collect())
}

/// proc_pid_mountinfo(5): `ID PARENT DEV ROOT MOUNT OPTIONS … - TYPE SOURCE SUPER-OPTIONS`.
pub fn parse_mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let mut right = right.split(' ');
    let unified = match right.next()? {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let (root, at) = (left.next()?.into(), left.next()?.into());
    Some(Mount { root, at, unified, options: right.nth(1)?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_runc_reads_them() {
        let v1 = found("cpu", "/sys/fs/cgroup/cpu".into(), "/us");
        let v2 = found("", BASE.into(), "/user.slice/session");
        let place = |path: Option<&str>| relative_path(path.map(Path::new), "c1").unwrap();
        let at = |path, found: &Found| place(path).in_hierarchy(found).display().to_string();
        assert_eq!(at(None, &v1), "us/c1");
        assert_eq!(at(None, &v2), "user.slice/c1");
        assert_eq!(at(Some("/a/../../b//c"), &v1), "b/c");
        assert_eq!(at(Some("b/c"), &v1), "us/b/c");
        assert_eq!(at(Some(""), &v2), "user.slice/c1");
        assert!(relative_path(Some(Path::new("/..")), "c1").is_err());
    }

    #[test]
    fn mountinfo_of_a_container_without_a_namespace() {
        let line = "40 31 0:30 /docker/x /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct";
        let mount = parse_mount(line).unwrap();
        assert!(mount.is_of("cpu,cpuacct") && !mount.is_of("") && !mount.is_of("memory"));
        assert_eq!(mount.root, Path::new("/docker/x"));
        assert!(parse_mount("1 2 0:3 / /proc rw - proc proc rw").is_none());
    }
}
