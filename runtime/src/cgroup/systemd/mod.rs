//! The systemd driver: a container's cgroup as a transient scope (or slice), so that systemd knows whose it is.
//!
//! A scope is born with a process and dies with its last one. Our limits stand before the container's process
//! exists, so a placeholder is that first process, until the container's own is in.

mod bus;
mod property;
mod version;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use contracts::fault;
use nix::sys::signal::Signal;
use oci_spec::runtime::LinuxResources;
use sys::clone::{CloneOptions, Cloned};

use super::file::Dir;
use super::layout::{Found, Layout, SYSTEMD};
use super::{Location, Member, Request, beneath, device_rules, kill};
use bus::{Bus, Refusal};
pub use version::Version;
use wire::Value;

/// How often a look is taken at the last processes of an unfinished container, 20 ms apart.
const ENDING: u32 = 100;

/// A process that keeps a scope alive. Dropped, it ends; it ends with us, too.
#[derive(Debug)]
pub struct Placeholder {
    /// Its process.
    pub pid: i32,
}

impl Placeholder {
    #[allow(clippy::exit)]
    fn start() -> Result<Self> {
        let us = nix::unistd::getpid();
        match sys::clone::clone(CloneOptions::default()).context("start a placeholder for the scope")? {
            Cloned::Parent { pid, .. } => Ok(Self { pid }),
            Cloned::Child => {
                let told = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).is_ok();
                // Who had ended before that is told of no more.
                while told && nix::unistd::getppid() == us {
                    nix::unistd::pause();
                }
                std::process::exit(1)
            }
        }
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid);
        // Our own child that nobody else reaps: the pid is still its.
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    }
}

/// The unit and its slice that `cgroupsPath` names.
#[derive(Debug, PartialEq, Eq)]
struct Unit {
    slice: String,
    name: String,
}

impl Unit {
    /// `slice:prefix:name`; none given is `system.slice:runtime:ID`, for a user `user.slice:runtime:ID`.
    fn read(path: Option<&Path>, id: &str, rootless: bool) -> Result<Self> {
        let default_slice = if rootless { "user.slice" } else { "system.slice" };
        let text = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let parts: Vec<&str> = text.split(':').collect();
        let (slice, prefix, name) = match parts[..] {
            [""] => ("", "runtime", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => fault!(Usage, "cgroupsPath {text}: not slice:prefix:name, as --systemd-cgroup needs it"),
        };
        ensure!(!name.is_empty(), "cgroupsPath {text}: no name after the last colon");
        let slice = match slice {
            "" => default_slice.to_owned(),
            // The root slice is called `-.slice`.
            slice if slice.ends_with(".slice") => slice.to_owned(),
            slice => fault!(Usage, "cgroupsPath {text}: {slice} is no slice"),
        };
        let name = match prefix {
            _ if name.ends_with(".slice") => name.to_owned(),
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        Ok(Self { slice, name })
    }

    fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Where systemd puts its cgroup: `a-b.slice` is in `a.slice`, and a slice's place is in its own name.
    fn path(&self) -> PathBuf {
        let slice = if self.is_slice() { &self.name } else { &self.slice };
        let stem = slice.strip_suffix(".slice").filter(|stem| *stem != "-").unwrap_or_default();
        let above = stem.match_indices('-').map(|(at, _)| &stem[..at]);
        let all = above.chain(Some(stem)).filter(|part| !part.is_empty());
        let mut path: PathBuf = all.map(|part| format!("{part}.slice")).collect();
        if !self.is_slice() {
            path.push(&self.name);
        }
        path
    }
}

/// The unit that [`start`] is going to start, and its cgroup below the root of each hierarchy.
///
/// # Errors
/// A usage fault for a `cgroupsPath` that names none.
pub fn plan(request: &Request<'_>) -> Result<(String, PathBuf)> {
    let unit = Unit::read(request.path, request.id, request.rootless)?;
    let path = unit.path().join(request.subgroup().unwrap_or(Path::new("")));
    Ok((unit.name, path))
}

/// A unit that runs.
#[derive(Debug)]
pub struct Started {
    /// Its name.
    pub unit: String,
    /// Its cgroup, below the root of each hierarchy.
    pub path: PathBuf,
    /// What keeps it alive, where it is a scope.
    pub placeholder: Option<Placeholder>,
}

/// Starts the unit, as systemd of this version of cgroups takes it.
///
/// # Errors
/// No systemd, a limit or annotation that systemd refuses.
pub fn start(version: Version, request: &Request<'_>) -> Result<Started> {
    let unit = Unit::read(request.path, request.id, request.rootless)?;
    let placeholder = if unit.is_slice() { None } else { Some(Placeholder::start()?) };
    let properties = properties(version, request, &unit, placeholder.as_ref())?;
    let what = || format!("start unit {}", unit.name);
    let mut bus = Bus::connect()?;
    // A failed unit of an earlier container keeps its name.
    let _ = bus.reset_failed(&unit.name);
    start_until_free(&mut bus, &unit.name, &properties).with_context(what)?;
    let path = bus.control_group(&unit.name).with_context(what)?;
    Ok(Started { path: path.trim_start_matches('/').into(), unit: unit.name, placeholder })
}

/// A creation that was killed may have asked for a unit of this name, and systemd come to that only after whoever cleared
/// away behind it: such a one, in which nothing runs, is stopped. Another's is left alone.
fn start_until_free(bus: &mut Bus, unit: &str, properties: &[(String, Value)]) -> Result<()> {
    for _ in 0..ENDING {
        match bus.start_transient(unit, properties) {
            Err(err) if is_refusal(&err, "UnitExists") && stop_where_empty(unit)? => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
    bus.start_transient(unit, properties)
}

fn is_refusal(err: &anyhow::Error, name: &str) -> bool {
    err.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.0.contains(name))
}

fn properties(
    version: Version,
    request: &Request<'_>,
    unit: &Unit,
    placeholder: Option<&Placeholder>,
) -> Result<Vec<(String, Value)>> {
    let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
    let flag = |name: &str, value: bool| (name.to_owned(), Value::Bool(value));
    let mut properties = vec![text("Description", format!("container {}", request.id))];
    if let Some(placeholder) = placeholder {
        properties.push(text("Slice", unit.slice.clone()));
        properties.push(flag("Delegate", true));
        properties.push(("PIDs".to_owned(), Value::U32s(vec![placeholder.pid.cast_unsigned()])));
    } else {
        properties.push(("Wants".to_owned(), Value::Texts(vec![unit.slice.clone()])));
    }
    // A scope that failed (its processes were killed for memory, or had gone before it began) keeps no name.
    properties.push(text("CollectMode", "inactive-or-failed".to_owned()));
    let accounting = ["MemoryAccounting", "CPUAccounting", "TasksAccounting", version.io_accounting()];
    properties.extend(accounting.map(|name| flag(name, true)));
    properties.push(flag("DefaultDependencies", false));
    properties.extend(version.devices(&device_rules::rules(request.resources)?)?);
    if let Some(resources) = request.resources {
        properties.extend(version.limits(resources)?);
    }
    if let Some(annotations) = request.annotations {
        // What is spelt out wins.
        for property in property::from_annotations(annotations)? {
            properties.retain(|(name, _)| *name != property.0);
            properties.push(property);
        }
    }
    Ok(properties)
}

/// The unit and its directory in the unified hierarchy.
///
/// # Errors
/// As [`start`]; no unified hierarchy.
pub fn create(root: &Found, request: &Request<'_>) -> Result<(Vec<Dir>, Location, Option<Placeholder>)> {
    let Started { unit, path, placeholder } = start(Version::V2, request)?;
    let path = root.mount.join(path);
    let dir = match request.subgroup() {
        Some(name) => beneath::make(&path, name, placeholder.as_ref().map(|first| first.pid))?,
        None => Dir::open("", &path)?,
    };
    let member = Member { controllers: String::new(), path: dir.path.clone() };
    let location = Location { dirs: vec![member], unit: Some(unit), ..Location::default() };
    Ok((vec![dir], location, placeholder))
}

/// The unit, on version 1: its place in every hierarchy. systemd makes those of the controllers that it accounts by and of
/// its own hierarchy, and nothing in the others (the freezer, processor sets).
///
/// # Errors
/// As [`start`]; an ordinary user, to whom no hierarchy of version 1 can be given; systemd counts the unit's processes in
/// none of `hierarchies`.
pub fn create_v1(hierarchies: &[Found], request: &Request<'_>) -> Result<Started> {
    if contracts::paths::is_ordinary_user() {
        fault!(Unsupported, "--systemd-cgroup: for an ordinary user it needs cgroup v2, this machine has v1");
    }
    let mut started = start(Version::V1, request)?;
    if !own(hierarchies).any(|found| found.mount.join(&started.path).is_dir()) {
        bail!("unit {}: its cgroup /{} is not mounted here", started.unit, started.path.display());
    }
    if let Some(below) = request.subgroup() {
        started.path.push(below);
    }
    Ok(started)
}

/// The hierarchies by which systemd knows which processes are whose: one of version 1, with the unified one beside it or not.
fn own(hierarchies: &[Found]) -> impl Iterator<Item = &Found> {
    hierarchies.iter().filter(|found| found.controllers.is_empty() || found.controllers == SYSTEMD)
}

/// Tells systemd about changed limits.
///
/// # Errors
/// systemd refuses.
pub fn update(unit: &str, version: Version, resources: &LinuxResources) -> Result<()> {
    let properties = version.limits(resources)?;
    if properties.is_empty() {
        return Ok(());
    }
    Bus::connect()?.set_properties(unit, &properties).with_context(|| format!("change unit {unit}"))
}

/// Stops the unit, if it is still there.
///
/// # Errors
/// It does not stop.
pub fn stop(unit: &str) -> Result<()> {
    let mut bus = Bus::connect()?;
    let stopped = match bus.stop(unit) {
        Err(err) if is_refusal(&err, "NoSuchUnit") => Ok(()),
        other => other.with_context(|| format!("stop unit {unit}")),
    };
    let _ = bus.reset_failed(unit);
    stopped
}

/// Stops the unit once no process is left in it; one that keeps some is left alone. Whether it has stopped.
///
/// # Errors
/// It does not stop.
pub fn stop_where_empty(unit: &str) -> Result<bool> {
    let layout = Layout::find()?;
    // A systemd that cannot be reached has started nothing.
    let Ok(mut bus) = Bus::connect() else { return Ok(true) };
    let Ok(path) = bus.control_group(unit) else {
        // It never began, or has gone.
        let _ = bus.reset_failed(unit);
        return Ok(true);
    };
    for _ in 0..ENDING {
        if !is_populated(&layout, Path::new(path.trim_start_matches('/'))) {
            return stop(unit).map(|()| true);
        }
        // A creation's processes end when they notice that nobody listens.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(false)
}

fn is_populated(layout: &Layout, path: &Path) -> bool {
    let hierarchies = match layout {
        Layout::V1(all) => all.as_slice(),
        Layout::V2(root) => std::slice::from_ref(root),
    };
    own(hierarchies).any(|found| {
        let dir = found.mount.join(path);
        if found.controllers.is_empty() {
            return fs::read_to_string(dir.join("cgroup.events"))
                .is_ok_and(|text| text.contains("populated 1"));
        }
        let mut pids = Vec::new();
        kill::collect(&dir, &mut pids).is_ok() && !pids.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_in_slices() {
        let path = |slice: &str, name: &str| Unit { slice: slice.into(), name: name.into() }.path();
        assert_eq!(path("a-b-c.slice", "x.scope"), Path::new("a.slice/a-b.slice/a-b-c.slice/x.scope"));
        assert_eq!(path("-.slice", "x.scope"), Path::new("x.scope"));
        assert_eq!(path("system.slice", "a-b.slice"), Path::new("a.slice/a-b.slice"));
    }

    #[test]
    fn units_as_runc_names_them() {
        let unit = |path: Option<&str>| Unit::read(path.map(Path::new), "c1", false).unwrap();
        let is = |slice: &str, name: &str| Unit { slice: slice.into(), name: name.into() };
        assert_eq!(unit(None), is("system.slice", "runtime-c1.scope"));
        assert_eq!(unit(Some("machine.slice:libpod:abc")), is("machine.slice", "libpod-abc.scope"));
        assert_eq!(unit(Some(":docker:abc")), is("system.slice", "docker-abc.scope"));
        assert_eq!(unit(Some("a.slice::b")), is("a.slice", "b.scope"));
        assert_eq!(unit(Some("a.slice::b.slice")), is("a.slice", "b.slice"));
        for wrong in ["/a/b", "a:b", "a:b:c", "a.slice:b:"] {
            assert!(Unit::read(Some(Path::new(wrong)), "c1", false).is_err(), "{wrong}");
        }
    }
}
