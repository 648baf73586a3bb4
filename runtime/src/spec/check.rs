//! Whether a document makes sense, before anything is made of it.

use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::fault;
use nix::libc;

use super::document::{Document, Hooks};
use super::linux::Linux;
use super::process::Process;
use crate::intel_rdt;
use crate::namespace::{Namespaces, net_devices, time};
use crate::security::{labels, limits};

/// Kernel parameters that belong to the IPC namespace, besides `fs.mqueue.*`.
const IPC_PARAMETERS: [&str; 9] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.shm_next_id",
];

/// Checks all of it.
///
/// # Errors
/// A usage fault that names the field.
pub fn document(document: &Document, namespaces: &Namespaces) -> Result<()> {
    version(&document.oci_version)?;
    if document.root.is_none() {
        fault!(Usage, "config.json: root is missing");
    }
    let Some(own) = &document.process else { fault!(Usage, "config.json: process is missing") };
    process(own)?;
    if !namespaces.has(libc::CLONE_NEWNS) && namespaces.has(libc::CLONE_NEWUSER) {
        fault!(Usage, "linux.namespaces: a user namespace has no right to mount without a mount namespace");
    }
    for (field, value) in [("hostname", &document.hostname), ("domainname", &document.domainname)] {
        if !value.is_empty() && !namespaces.has(libc::CLONE_NEWUTS) {
            fault!(Usage, "unable to set {field} without a private UTS namespace");
        }
    }
    hooks(&document.hooks)?;
    linux(&document.linux, namespaces)
}

/// A relative path would be looked up wherever the hook happens to start.
fn hooks(hooks: &Hooks) -> Result<()> {
    for (list, name) in [
        (&hooks.prestart, "prestart"),
        (&hooks.create_runtime, "createRuntime"),
        (&hooks.create_container, "createContainer"),
        (&hooks.start_container, "startContainer"),
        (&hooks.poststart, "poststart"),
        (&hooks.poststop, "poststop"),
    ] {
        if let Some(hook) = list.iter().find(|hook| !hook.path.is_absolute()) {
            fault!(Usage, "hooks.{name}: path {:?} is not absolute", hook.path);
        }
    }
    Ok(())
}

fn version(version: &str) -> Result<()> {
    let major = version.split('.').next().unwrap_or_default();
    if major != "1" || version.split('.').count() < 3 {
        fault!(
            Usage,
            "config.json: ociVersion {version:?} is not supported: we know 1.0 to {}",
            super::VERSION
        );
    }
    Ok(())
}

/// Checks a process.
///
/// # Errors
/// A usage fault that names the field.
pub fn process(process: &Process) -> Result<()> {
    if process.args.is_empty() {
        fault!(Usage, "process.args is empty");
    }
    if !process.cwd.is_absolute() {
        fault!(Usage, "process.cwd {:?} is not an absolute path", process.cwd);
    }
    if let Some(wrong) = process.args.iter().chain(&process.env).find(|text| text.contains('\0')) {
        fault!(Usage, "process: {wrong:?} holds a NUL");
    }
    if let Some(umask) = process.user.umask.filter(|umask| *umask > 0o777) {
        fault!(Usage, "process.user.umask {umask:#o} is no mask");
    }
    if let Some(score) = process.oom_score_adj.filter(|score| !(-1000..=1000).contains(score)) {
        fault!(Usage, "process.oomScoreAdj {score} is not between -1000 and 1000");
    }
    if !process.selinux_label.is_empty() && !labels::selinux_is_enabled() {
        fault!(Unsupported, "process.selinuxLabel: SELinux is disabled or not supported");
    }
    limits::check(&process.rlimits)
}

fn linux(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let maps = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if maps && !namespaces.has(libc::CLONE_NEWUSER) {
        fault!(Usage, "user namespace mappings specified, but user namespace isn't enabled in the config");
    }
    if namespaces.new & libc::CLONE_NEWUSER != 0
        && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty())
    {
        fault!(Usage, "linux: a new user namespace needs uidMappings and gidMappings");
    }
    if !linux.time_offsets.is_empty() && namespaces.new & sys::clone::CLONE_NEWTIME == 0 {
        fault!(Usage, "linux.timeOffsets needs a new time namespace");
    }
    time::check(&linux.time_offsets)?;
    if !linux.mount_label.is_empty() && !labels::selinux_is_enabled() {
        fault!(Unsupported, "linux.mountLabel: SELinux is disabled or not supported");
    }
    if !linux.net_devices.is_empty() && !namespaces.has(libc::CLONE_NEWNET) {
        fault!(Usage, "linux.netDevices: unable to move network devices without a private network namespace");
    }
    net_devices::check(&linux.net_devices)?;
    if let Some(rdt) = &linux.intel_rdt {
        intel_rdt::check(&intel_rdt::mount().context("linux.intelRdt")?, rdt)?;
    }
    for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
        if !path.is_absolute() {
            fault!(Usage, "linux: masked or read-only path {path:?} is not absolute");
        }
    }
    for device in &linux.devices {
        if !device.path.is_absolute() || device.path.file_name().is_none() {
            fault!(Usage, "linux.devices: path {:?} is not absolute", device.path);
        }
    }
    linux.sysctl.keys().try_for_each(|name| sysctl(name, namespaces))
}

/// Only parameters that a namespace of the container owns: others would change the host.
fn sysctl(name: &str, namespaces: &Namespaces) -> Result<()> {
    let dotted = name.replace('/', ".");
    let owner = if IPC_PARAMETERS.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        libc::CLONE_NEWIPC
    } else if dotted.starts_with("net.") {
        libc::CLONE_NEWNET
    } else if dotted == "kernel.hostname" {
        fault!(Usage, "linux.sysctl: {name:?} is not allowed, it conflicts with hostname")
    } else if dotted == "kernel.domainname" {
        libc::CLONE_NEWUTS
    } else if dotted.starts_with("user.") {
        libc::CLONE_NEWUSER
    } else {
        fault!(Usage, "linux.sysctl: {name:?} is not in a separate kernel namespace")
    };
    if !namespaces.has(owner) {
        fault!(Usage, "linux.sysctl: {name:?} is not allowed in the host's namespace");
    }
    let walks = sysctl_path(name).split('/').any(|part| part.is_empty() || part == "..");
    if walks || Path::new(name).is_absolute() {
        fault!(Usage, "linux.sysctl: wrong name {name:?}");
    }
    Ok(())
}

/// The path below `/proc/sys`. As sysctl(8): whichever of `.` and `/` comes first separates the parts, and the other
/// stands for itself (`net.ipv4.conf.eth0/1.forwarding`).
#[must_use]
pub fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(first) if name.as_bytes()[first] == b'.' => name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names_become_paths() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn only_parameters_of_own_namespaces() {
        let all = Namespaces { new: libc::CLONE_NEWNET | libc::CLONE_NEWIPC, joined: Vec::new() };
        sysctl("net.ipv4.ip_forward", &all).unwrap();
        sysctl("kernel.shmmax", &all).unwrap();
        for wrong in ["kernel.panic", "vm.swappiness", "kernel.domainname", "net..x", "net/../vm/x"] {
            assert!(sysctl(wrong, &all).is_err(), "{wrong}");
        }
        let names = Namespaces { new: libc::CLONE_NEWUTS, joined: Vec::new() };
        sysctl("kernel.domainname", &names).unwrap();
        for wrong in ["kernel.hostname", "kernel/hostname"] {
            assert!(sysctl(wrong, &names).is_err(), "{wrong}: config.json has a field for it");
        }
        assert!(sysctl("net.ipv4.ip_forward", &Namespaces::default()).is_err());
    }

    #[test]
    fn versions() {
        for good in ["1.0.0", "1.0.2-dev", "1.3.0+dev"] {
            version(good).unwrap();
        }
        for bad in ["", "1", "2.0.0", "0.9.0", "x"] {
            assert!(version(bad).is_err(), "{bad}");
        }
    }
}
