//! A container's cgroup: who is in it, and what it has used.

mod metrics;

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel keeps count of a container.
#[derive(Debug, Clone)]
pub enum Cgroup {
    /// A directory for each controller's name (`cpu`, `memory`, …).
    V1(Vec<(String, PathBuf)>),
    V2(PathBuf),
}

impl Cgroup {
    /// The one that a process is in now.
    pub fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let base = Path::new("/sys/fs/cgroup");
        let below = |dir: PathBuf, path: &str| dir.join(path.trim_start_matches('/'));
        let lines = text.lines().filter_map(|line| {
            let mut words = line.splitn(3, ':').skip(1);
            Some((words.next()?, words.next()?))
        });
        if base.join("cgroup.controllers").exists() {
            let (_, path) = lines.into_iter().find(|(names, _)| names.is_empty())?;
            return Some(Self::V2(below(base.into(), path)));
        }
        let mut dirs = Vec::new();
        for (names, path) in lines.filter(|(names, _)| !names.is_empty() && !names.contains('=')) {
            // `cpu,cpuacct` is mounted under that name; on some machines only a link to it has the other.
            let whole = below(base.join(names), path);
            for name in names.split(',') {
                let dir = Some(whole.clone()).filter(|dir| dir.is_dir());
                dirs.push((name.to_owned(), dir.unwrap_or_else(|| below(base.join(name), path))));
            }
        }
        (!dirs.is_empty()).then_some(Self::V1(dirs))
    }

    /// A version 1 controller's directory.
    pub fn controller(&self, name: &str) -> Option<&Path> {
        match self {
            Self::V1(dirs) => dirs.iter().find(|(known, _)| known == name).map(|(_, dir)| dir.as_path()),
            Self::V2(_) => None,
        }
    }

    /// Every process in it and below it.
    pub fn pids(&self) -> Vec<u32> {
        let dir = match self {
            Self::V2(dir) => Some(dir.as_path()),
            Self::V1(dirs) => ["pids", "devices", "freezer", "memory"]
                .iter()
                .find_map(|name| self.controller(name))
                .or(dirs.first().map(|(_, dir)| dir.as_path())),
        };
        let mut pids = Vec::new();
        if let Some(dir) = dir {
            collect(dir, &mut pids);
        }
        pids.sort_unstable();
        pids
    }

    /// Its counters as one of containerd's messages: the message's name and bytes. `None` where it is gone.
    pub fn stats(&self) -> Option<(&'static str, Vec<u8>)> {
        match self {
            Self::V1(dirs) => {
                dirs.iter().find(|(_, dir)| dir.is_dir())?;
                Some(("io.containerd.cgroups.v1.Metrics", metrics::v1(self)))
            }
            Self::V2(dir) => dir.is_dir().then(|| ("io.containerd.cgroups.v2.Metrics", metrics::v2(dir))),
        }
    }
}

fn collect(dir: &Path, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}
