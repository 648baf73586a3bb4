//! What a mount of type `cgroup` shows.

use std::path::PathBuf;

use anyhow::Result;
use contracts::fault;

use super::beneath::SYSTEMD_V1;
use super::layout::{Found, Layout, SYSTEMD};
use super::{Location, Member};

/// The mounts that make up a container's `/sys/fs/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mounts {
    /// One mount of type `cgroup2`. Where that is refused: a bind mount of this directory, the container's own.
    V2(PathBuf),
    /// A tmpfs with one directory for each hierarchy.
    V1(Vec<Hierarchy>),
}

/// One hierarchy below the tmpfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Its directory: `memory`, `cpu,cpuacct`, `systemd`, `unified`.
    pub name: String,
    /// The type to mount in a cgroup namespace: `cgroup` or `cgroup2`.
    pub kind: &'static str,
    /// The data for that mount; empty for `cgroup2`.
    pub data: String,
    /// The container's directory on the host, to be bind-mounted where there is no cgroup namespace.
    pub source: PathBuf,
    /// Symbolic links to `name` that stand beside it: `cpu` and `cpuacct`.
    pub links: Vec<String>,
}

impl Hierarchy {
    fn of(member: &Member) -> Self {
        let controllers = member.controllers.as_str();
        let named = controllers.strip_prefix("name=");
        let (kind, data) = match named {
            _ if member.is_unified() => ("cgroup2", String::new()),
            Some(_) => ("cgroup", format!("none,{controllers}")),
            None => ("cgroup", controllers.to_owned()),
        };
        let name = if member.is_unified() { "unified" } else { named.unwrap_or(controllers) };
        let links =
            if name.contains(',') { name.split(',').map(str::to_owned).collect() } else { Vec::new() };
        Self { name: name.to_owned(), kind, data, source: member.path.clone(), links }
    }
}

impl Location {
    /// What to mount for this container. One without a cgroup of its own sees ours, or nothing where we see nothing.
    #[must_use]
    pub fn mounts(&self) -> Mounts {
        if !self.dirs.is_empty() {
            return plan(&self.dirs);
        }
        let member = |found: &Found| Member {
            controllers: found.controllers.clone(),
            path: found.mount.join(&found.own),
        };
        match Layout::find() {
            Ok(Layout::V1(all)) => plan(&all.iter().map(member).collect::<Vec<_>>()),
            Ok(Layout::V2(root)) => plan(&[member(&root)]),
            Err(_) => plan(&[]),
        }
    }
}

impl Location {
    /// What to mount for a container that is to see systemd's own hierarchy of version 1 alone.
    ///
    /// # Errors
    /// It is in none.
    pub fn systemd_mounts(&self) -> Result<Mounts> {
        let member = self.systemd_v1.as_ref().or_else(|| self.with_controller(SYSTEMD));
        let Some(member) = member else {
            fault!(Unsupported, "annotation {SYSTEMD_V1}: the container has no cgroup in {SYSTEMD}");
        };
        Ok(Mounts::V1(vec![Hierarchy::of(member)]))
    }
}

fn plan(members: &[Member]) -> Mounts {
    match members {
        [member] if member.is_unified() => Mounts::V2(member.path.clone()),
        _ => Mounts::V1(members.iter().map(Hierarchy::of).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_hierarchy() {
        let member = |controllers: &str| Member { controllers: controllers.into(), path: "/x".into() };
        let Mounts::V1(all) = plan(&[member("cpu,cpuacct"), member("name=systemd"), member("")]) else {
            panic!("v1 expected")
        };
        let seen: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.kind, one.data.as_str())).collect();
        let wanted = [
            ("cpu,cpuacct", "cgroup", "cpu,cpuacct"),
            ("systemd", "cgroup", "none,name=systemd"),
            ("unified", "cgroup2", ""),
        ];
        assert_eq!(seen, wanted);
        assert_eq!(all[0].links, ["cpu", "cpuacct"]);
        assert_eq!(plan(&[member("")]), Mounts::V2("/x".into()));
    }
}
