//! `linux.namespaces`: own, the host's, or another container's.

use std::path::{Path, PathBuf};

use anyhow::Result;
use contracts::container::{Container, State};
use contracts::fault;
use serde_json::{Value, json};

use super::{list, set};
use crate::container::{Store, shared_memory, status};

pub fn apply(store: &Store, record: &mut Container, spec: &mut Value) -> Result<()> {
    let host = record.host_config.clone();
    mode(store, spec, "pid", &host.pid_mode)?;
    let ipc = match host.ipc_mode.as_str() {
        "none" => {
            list(spec, "/mounts").retain(|mount| mount["destination"] != "/dev/shm");
            "private"
        }
        "shareable" | "private" | "" => "private",
        other => other,
    };
    mode(store, spec, "ipc", ipc)?;
    shared_memory(store, record, spec)?;
    mode(store, spec, "uts", &host.uts_mode)?;
    user(store, record, spec)?;
    let cgroup = match host.cgroupns_mode.as_str() {
        // Docker's default: the host's on cgroup v1, an own one on v2.
        "" if is_cgroup_v2() && !host.privileged => "private",
        "" => "host",
        known @ ("host" | "private") => known,
        other => fault!(Usage, "--cgroupns: invalid CGROUP mode: {other}"),
    };
    record.host_config.cgroupns_mode = cgroup.into();
    mode(store, spec, "cgroup", cgroup)?;
    if host.uts_mode == "host"
        && let Some(spec) = spec.as_object_mut()
    {
        // Setting a name there would be the host's.
        spec.remove("hostname");
        spec.remove("domainname");
    }
    Ok(())
}

/// The user namespace, its own with the maps of the record or one that exists.
fn user(store: &Store, record: &Container, spec: &mut Value) -> Result<()> {
    list(spec, "/linux/namespaces").retain(|namespace| namespace["type"] != "user");
    let Some(maps) = &record.host_config.id_mappings else { return Ok(()) };
    list(spec, "/linux/namespaces").push(json!({ "type": "user" }));
    set(spec, "/linux/uidMappings", json!(maps.uids));
    set(spec, "/linux/gidMappings", json!(maps.gids));
    if let Some(path) = joined_user(store, record)? {
        join_user(spec, &path);
    }
    // A group that the maps do not have can be given nothing: as of /dev/pts.
    for mount in list(spec, "/mounts") {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| {
                let gid = option.as_str().and_then(|text| text.strip_prefix("gid=")?.parse().ok());
                gid.is_none_or(|gid| maps.outside_group(gid).is_ok())
            });
        }
    }
    Ok(())
}

/// The user namespace of somebody else's that the container joins.
pub fn joined_user(store: &Store, record: &Container) -> Result<Option<PathBuf>> {
    let host = &record.host_config;
    if host.id_mappings.is_none() {
        return Ok(None);
    }
    if let Some(path) = host.userns_mode.strip_prefix("ns:") {
        return Ok(Some(path.into()));
    }
    let Some(name) = host.userns_mode.strip_prefix("container:") else { return Ok(None) };
    Ok(Some(format!("/proc/{}/ns/user", running(store, name)?.1).into()))
}

/// Joins the user namespace at `path`. The maps stay: they are its own, and old runtimes look at nothing else.
pub fn join_user(spec: &mut Value, path: &Path) {
    for namespace in
        list(spec, "/linux/namespaces").iter_mut().filter(|namespace| namespace["type"] == "user")
    {
        namespace["path"] = json!(path);
    }
}

/// Sets the paths of other containers' namespaces anew.
pub fn rejoin(store: &Store, record: &Container, spec: &mut Value) -> Result<()> {
    let host = &record.host_config;
    for (kind, wanted) in [("pid", &host.pid_mode), ("ipc", &host.ipc_mode), ("uts", &host.uts_mode)] {
        if wanted.starts_with("container:") {
            mode(store, spec, kind, wanted)?;
        }
    }
    if host.userns_mode.starts_with("container:")
        && let Some(path) = joined_user(store, record)?
    {
        join_user(spec, &path);
    }
    if let Some(path) = unnamed_network_joined(store, record)? {
        for namespace in
            list(spec, "/linux/namespaces").iter_mut().filter(|namespace| namespace["type"] == "network")
        {
            namespace["path"] = json!(path);
        }
    }
    Ok(())
}

/// Whether it joins a namespace of another container's.
pub fn joins_others(record: &Container) -> bool {
    let host = &record.host_config;
    let modes = [&host.pid_mode, &host.ipc_mode, &host.uts_mode, &host.userns_mode];
    joined_network(record).is_some() || modes.iter().any(|mode| mode.starts_with("container:"))
}

fn joined_network(record: &Container) -> Option<&str> {
    record.network.networks.first()?.network.strip_prefix("container:")
}

/// Whether its network namespace has no name. A name is a mount, of which every container that starts later would get a copy.
/// That of a user namespace's stays: it is made by whoever owns it.
pub fn is_unnamed(network: &contracts::network::Request) -> bool {
    network.id_maps.is_none() && network.networks.first().is_some_and(|first| first.network == "none")
}

/// Whether /sys/fs/cgroup is the unified hierarchy alone.
pub fn is_cgroup_v2() -> bool {
    std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn mode(store: &Store, spec: &mut Value, kind: &str, mode: &str) -> Result<()> {
    let namespaces = list(spec, "/linux/namespaces");
    namespaces.retain(|namespace| namespace["type"] != kind);
    match mode {
        "" | "private" => namespaces.push(json!({ "type": kind })),
        "host" => {}
        other => {
            let Some(name) = other.strip_prefix("container:") else {
                fault!(Usage, "--{kind}: invalid {} mode: {other}", kind.to_uppercase())
            };
            let (id, pid) = running(store, name)?;
            if kind == "ipc" {
                let donor = store.load(&id)?;
                if donor.host_config.ipc_mode != "shareable" {
                    fault!(
                        WrongState,
                        "failed to join IPC namespace: container {id}: non-shareable IPC (hint: use IpcMode:shareable \
                         for the donor container)"
                    );
                }
            }
            namespaces.push(json!({ "type": kind, "path": format!("/proc/{pid}/ns/{kind}") }));
        }
    }
    Ok(())
}

/// Who shares an IPC namespace shares /dev/shm with it.
fn shared_memory(store: &Store, record: &Container, spec: &mut Value) -> Result<()> {
    let source = match record.host_config.ipc_mode.as_str() {
        "host" => PathBuf::from("/dev/shm"),
        "shareable" => shared_memory::place(&store.bundle(&record.id)),
        other => match other.strip_prefix("container:") {
            Some(name) => shared_memory::place(&store.bundle(&running(store, name)?.0)),
            None => return Ok(()),
        },
    };
    let mounts = list(spec, "/mounts");
    // A mount of the user's own wins.
    if mounts.iter().any(|mount| mount["destination"] == "/dev/shm" && mount["source"] != "shm") {
        return Ok(());
    }
    mounts.retain(|mount| mount["destination"] != "/dev/shm");
    mounts.push(json!({
        "destination": "/dev/shm", "type": "bind", "source": source, "options": ["rbind", "rprivate"],
    }));
    Ok(())
}

/// Where the network namespace is that a container joins, where that one has no name.
pub fn unnamed_network_joined(store: &Store, record: &Container) -> Result<Option<PathBuf>> {
    joined_network(record).map_or(Ok(None), |other| unnamed_network(store, other))
}

fn unnamed_network(store: &Store, id: &str) -> Result<Option<PathBuf>> {
    if !is_unnamed(&store.load(id)?.network) {
        return Ok(None);
    }
    Ok(Some(format!("/proc/{}/ns/net", running(store, id)?.1).into()))
}

fn running(store: &Store, name: &str) -> Result<(String, i32)> {
    let id = store.resolve(name)?;
    let status = status::read(store, &id)?;
    match status.process {
        Some(process) if matches!(status.state, State::Initialized | State::Running | State::Paused) => {
            Ok((id, process.pid))
        }
        _ => fault!(WrongState, "cannot join namespace of container {name}: it is not running"),
    }
}
