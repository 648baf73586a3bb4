//! `linux.namespaces`: own, the host's, or another container's.

use std::path::PathBuf;

use anyhow::Result;
use contracts::container::{Container, State};
use contracts::fault;
use serde_json::{Value, json};

use super::list;
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
    match host.userns_mode.as_str() {
        "" | "host" => list(spec, "/linux/namespaces").retain(|namespace| namespace["type"] != "user"),
        other => fault!(Usage, "--userns: invalid USER mode: {other}"),
    }
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

fn running(store: &Store, name: &str) -> Result<(String, i32)> {
    let id = store.resolve(name)?;
    let status = status::read(store, &id)?;
    match status.process {
        Some(process) if matches!(status.state, State::Running | State::Paused) => Ok((id, process.pid)),
        _ => fault!(WrongState, "cannot join namespace of container {name}: it is not running"),
    }
}
