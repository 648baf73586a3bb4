//! A view of cgroups of our own: a child process in fresh mount, network and cgroup namespaces.
//!
//! Its cgroups sit under `conformance-view-PID` of every hierarchy, so nothing outside is seen or touched.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::View;
use crate::guard;
use crate::kernel;

const BASE: &str = "/sys/fs/cgroup";

/// A version 1 hierarchy: where it is mounted, and the options that mount it again.
struct Hierarchy {
    dir: PathBuf,
    options: String,
}

/// Whether this runtime (as it calls itself) refuses cgroups as this machine mounts them: crun wants no controller in
/// version 2 beside version 1.
#[must_use]
pub fn is_refused_by(kind: &str) -> bool {
    let unified = fs::read_to_string(format!("{BASE}/unified/cgroup.controllers")).unwrap_or_default();
    kind.contains("crun") && !unified.trim().is_empty()
}

/// Runs `work` in a child that sees cgroups as `view` says. `shares` raises its CPU share over the neighbours'.
///
/// # Errors
/// The view cannot be made; what goes wrong in `work` is printed by the child and gives false.
pub fn inside(view: View, shares: Option<u32>, work: impl FnOnce() -> Result<bool>) -> Result<bool> {
    let hierarchies = hierarchies()?;
    let name = format!("conformance-view-{}", guard::id());
    let made = make_cgroups(&hierarchies, &name, shares)?;
    let pid = kernel::fork_into(0).context("fork")?;
    if pid == 0 {
        let alone = set_pdeathsig(Signal::SIGKILL).context("end with the parent");
        let result = alone.and_then(|()| enter(view, &hierarchies, &made)).and_then(|()| work());
        if let Err(err) = &result {
            let _ = writeln!(io::stderr(), "conformance: {err:#}");
        }
        #[allow(clippy::exit)] // the child of a fork must not return into the parent's code
        std::process::exit(i32::from(!result.unwrap_or(false)));
    }
    let code = kernel::reap(pid)?.code;
    remove_cgroups(&made);
    Ok(code == 0)
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in text.lines() {
        let Some((front, back)) = line.split_once(" - ") else { continue };
        let (Some(dir), Some(("cgroup", rest))) = (front.split(' ').nth(4), back.split_once(' ')) else {
            continue;
        };
        let options = rest.rsplit(' ').next().unwrap_or_default().split(',');
        let options: Vec<&str> = options
            .filter(|option| !matches!(*option, "rw" | "ro") && !option.starts_with("release_agent"))
            .collect();
        found.push(Hierarchy { dir: dir.into(), options: options.join(",") });
    }
    Ok(found)
}

fn make_cgroups(hierarchies: &[Hierarchy], name: &str, shares: Option<u32>) -> Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    for hierarchy in hierarchies {
        let dir = hierarchy.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if dir.join(file).exists() {
                fs::write(dir.join(file), fs::read(hierarchy.dir.join(file))?)?;
            }
        }
        if let Some(shares) = shares.filter(|_| dir.join("cpu.shares").exists()) {
            fs::write(dir.join("cpu.shares"), shares.to_string())?;
        }
        made.push(dir);
    }
    let unified =
        if Path::new(BASE).join("cgroup.procs").exists() { BASE.into() } else { format!("{BASE}/unified") };
    if Path::new(&unified).exists() {
        let dir = Path::new(&unified).join(name);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        made.push(dir);
    }
    Ok(made)
}

fn enter(view: View, hierarchies: &[Hierarchy], made: &[PathBuf]) -> Result<()> {
    for dir in made {
        fs::write(dir.join("cgroup.procs"), "0").with_context(|| format!("enter {}", dir.display()))?;
    }
    unshare(CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("make namespaces")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // Every mount below goes with it; what is stacked goes one by one.
    while umount2(BASE, MntFlags::MNT_DETACH).is_ok() {}
    if view == View::V2 {
        mount(Some("cgroup2"), BASE, Some("cgroup2"), MsFlags::empty(), None::<&str>)
            .context("mount cgroup2")?;
        // A cgroup that hands out controllers may hold no process itself.
        fs::create_dir_all(format!("{BASE}/init"))?;
        fs::write(format!("{BASE}/init/cgroup.procs"), "0")?;
        for controller in fs::read_to_string(format!("{BASE}/cgroup.controllers"))?.split_whitespace() {
            fs::write(format!("{BASE}/cgroup.subtree_control"), format!("+{controller}"))?;
        }
        return Ok(());
    }
    mount(Some("tmpfs"), BASE, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))?;
    for hierarchy in hierarchies {
        let options = if hierarchy.options.starts_with("name=") {
            format!("none,{}", hierarchy.options)
        } else {
            hierarchy.options.clone()
        };
        fs::create_dir_all(&hierarchy.dir)?;
        mount(Some("cgroup"), &hierarchy.dir, Some("cgroup"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount cgroup {options}"))?;
    }
    Ok(())
}

/// What was left running in these cgroups of ours is ended, then they go, the innermost first.
pub fn remove_cgroups(made: &[PathBuf]) {
    for _ in 0..50 {
        let mut left = false;
        for dir in made {
            end_and_remove(dir);
            left |= dir.exists();
        }
        if !left {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn end_and_remove(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            end_and_remove(&entry.path());
        }
    }
    let _ = fs::write(dir.join("freezer.state"), "THAWED");
    for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Ok(pid @ 2..) = pid.parse::<i32>() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = fs::remove_dir(dir);
}
