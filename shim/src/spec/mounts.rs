//! `mounts` of config.json. The record's mount points are already resolved to host paths.

use anyhow::Result;
use contracts::container::{Container, MountPoint};
use serde_json::{Value, json};

use super::list;
use super::process::{INIT, init_program};
use crate::request::idmap;

pub fn apply(record: &Container, spec: &mut Value) -> Result<()> {
    let host = &record.host_config;
    let mounts = list(spec, "/mounts");
    for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev/shm") {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| !option.as_str().unwrap_or_default().starts_with("size="));
            options.push(json!(format!("size={}", host.shm_size)));
        }
    }
    if host.privileged {
        writable_kernel_mounts(mounts);
    }
    let mut own = Vec::new();
    for point in &record.mounts {
        own.push(match point.kind.as_str() {
            "tmpfs" => tmpfs(&point.destination, &point.mode, point.rw),
            _ => shifted(record, point)?,
        });
    }
    for (target, options) in &host.tmpfs {
        own.push(tmpfs(target, options, true));
    }
    if let (Some(true), Ok(program)) = (host.init, init_program()) {
        own.push(bind(&MountPoint { source: program, destination: INIT.into(), ..MountPoint::default() }));
    }
    // Parents before children, whatever the order they were asked for.
    own.sort_by_key(|mount| mount["destination"].as_str().unwrap_or_default().matches('/').count());
    mounts.retain(|known| !own.iter().any(|mount| mount["destination"] == known["destination"]));
    mounts.append(&mut own);
    Ok(())
}

/// A bind or volume. A volume's files have the ids of the containers that use it, whichever those stand for on the host:
/// containers with other maps see the same owners.
fn shifted(record: &Container, point: &MountPoint) -> Result<Value> {
    let mut mount = bind(point);
    let container = record.host_config.id_mappings.as_ref();
    let maps = match point.kind.as_str() {
        _ if !point.idmap.is_empty() => idmap::maps(&point.idmap, container)?,
        "volume" if container.is_some() => idmap::maps("idmap", container)?,
        _ => return Ok(mount),
    };
    list(&mut mount, "/options").push(json!("idmap"));
    mount["uidMappings"] = json!(maps.uids);
    mount["gidMappings"] = json!(maps.gids);
    Ok(mount)
}

fn bind(point: &MountPoint) -> Value {
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    let (depth, access) = match (point.recursive.as_str(), point.rw) {
        // Not `rw`: what is read-only on the host stays so.
        ("disabled", true) => ("bind", None),
        ("disabled", false) => ("bind", Some("ro")),
        (_, true) => ("rbind", None),
        ("writable", false) => ("rbind", Some("ro")),
        // As docker since 25: read-only means the mounts below too.
        (_, false) => ("rbind", Some("rro")),
    };
    let (source, target) = (&point.source, &point.destination);
    let options: Vec<&str> = [depth].into_iter().chain(access).chain([propagation]).collect();
    json!({ "destination": target, "type": "bind", "source": source, "options": options })
}

fn tmpfs(target: &str, options: &str, rw: bool) -> Value {
    let mut all: Vec<&str> = vec!["nosuid", "nodev", "noexec"];
    for option in options.split(',').filter(|option| !option.is_empty()) {
        // `exec` takes back `noexec`, and so on.
        all.retain(|known| known.strip_prefix("no") != Some(option));
        all.push(option);
    }
    if !rw {
        all.push("ro");
    }
    json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": all })
}

/// A privileged container may write to /sys and the cgroups.
fn writable_kernel_mounts(mounts: &mut [Value]) {
    for mount in mounts {
        if matches!(mount["type"].as_str(), Some("sysfs" | "cgroup" | "cgroup2"))
            && let Some(options) = mount["options"].as_array_mut()
        {
            options.retain(|option| option != "ro");
        }
    }
}
