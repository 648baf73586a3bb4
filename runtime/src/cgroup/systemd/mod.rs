//! The systemd driver: a container's cgroup as a transient scope (or slice), so that systemd knows whose it is.
//!
//! A scope is born with a process and dies with its last one. Our limits stand before the container's process
//! exists, so a placeholder is that first process, until the container's own is in.

mod bus;
mod property;
mod wire;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use contracts::fault;
use nix::sys::signal::Signal;
use oci_spec::runtime::LinuxResources;
use sys::clone::{CloneOptions, Cloned};

use super::file::Dir;
use super::layout::{Found, Layout};
use super::{Location, Member, Request, beneath, device_rules};
use bus::{Bus, Refusal};
use wire::Value;

/// How often a look is taken at the last processes of an unfinished container, 20 ms apart.
const ENDING: u32 = 100;

/// A process that keeps a scope alive. Dropped, it ends; it ends with us, too.
#[derive(Debug)]
pub struct Placeholder {
    pid: i32,
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
}

/// The name of the unit that [`create`] starts.
///
/// # Errors
/// A usage fault for a `cgroupsPath` that names none.
pub fn name(request: &Request<'_>) -> Result<String> {
    Ok(Unit::read(request.path, request.id, request.rootless)?.name)
}

/// Starts the unit.
///
/// # Errors
/// No systemd, no unified hierarchy, a limit or annotation that systemd refuses.
pub fn create(root: &Found, request: &Request<'_>) -> Result<(Vec<Dir>, Location, Option<Placeholder>)> {
    let unit = Unit::read(request.path, request.id, request.rootless)?;
    let is_slice = unit.name.ends_with(".slice");
    let placeholder = if is_slice { None } else { Some(Placeholder::start()?) };
    let text = |name: &str, value: String| (name.to_owned(), Value::Text(value));
    let flag = |name: &str, value: bool| (name.to_owned(), Value::Bool(value));
    let mut properties = vec![text("Description", format!("container {}", request.id))];
    if let Some(placeholder) = &placeholder {
        properties.push(text("Slice", unit.slice.clone()));
        properties.push(flag("Delegate", true));
        properties.push(("PIDs".to_owned(), Value::U32s(vec![placeholder.pid.cast_unsigned()])));
    } else {
        properties.push(("Wants".to_owned(), Value::Texts(vec![unit.slice.clone()])));
    }
    // A scope that failed (its processes were killed for memory, or had gone before it began) keeps no name.
    properties.push(text("CollectMode", "inactive-or-failed".to_owned()));
    let accounting = ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"];
    properties.extend(accounting.map(|name| flag(name, true)));
    properties.push(flag("DefaultDependencies", false));
    properties.extend(property::devices(&device_rules::rules(request.resources)?));
    if let Some(resources) = request.resources {
        properties.extend(property::limits(resources)?);
    }
    if let Some(annotations) = request.annotations {
        // What is spelt out wins.
        for property in property::from_annotations(annotations)? {
            properties.retain(|(name, _)| *name != property.0);
            properties.push(property);
        }
    }
    let what = || format!("start unit {}", unit.name);
    let mut bus = Bus::connect()?;
    // A failed unit of an earlier container keeps its name.
    let _ = bus.reset_failed(&unit.name);
    bus.start_transient(&unit.name, &properties).with_context(what)?;
    let path = bus.control_group(&unit.name).with_context(what)?;
    let path = root.mount.join(path.trim_start_matches('/'));
    let dir = match request.subgroup() {
        Some(name) => beneath::make(&path, name, placeholder.as_ref().map(|first| first.pid))?,
        None => Dir::open("", &path)?,
    };
    let member = Member { controllers: String::new(), path: dir.path.clone() };
    let location = Location { dirs: vec![member], unit: Some(unit.name), ..Location::default() };
    Ok((vec![dir], location, placeholder))
}

/// Tells systemd about changed limits.
///
/// # Errors
/// systemd refuses.
pub fn update(unit: &str, resources: &LinuxResources) -> Result<()> {
    let properties = property::limits(resources)?;
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
        Err(err) if err.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.0.contains("NoSuchUnit")) => {
            Ok(())
        }
        other => other.with_context(|| format!("stop unit {unit}")),
    };
    let _ = bus.reset_failed(unit);
    stopped
}

/// Stops the unit once no process is left in it; one that keeps some is left alone.
///
/// # Errors
/// It does not stop.
pub fn stop_where_empty(unit: &str) -> Result<()> {
    let Layout::V2(root) = Layout::find()? else { return Ok(()) };
    // A systemd that cannot be reached has started nothing.
    let Ok(mut bus) = Bus::connect() else { return Ok(()) };
    let Ok(path) = bus.control_group(unit) else {
        // It never began, or has gone.
        let _ = bus.reset_failed(unit);
        return Ok(());
    };
    let events = root.mount.join(path.trim_start_matches('/')).join("cgroup.events");
    for _ in 0..ENDING {
        if !std::fs::read_to_string(&events).is_ok_and(|text| text.contains("populated 1")) {
            return stop(unit);
        }
        // A creation's processes end when they notice that nobody listens.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
