//! The container's record becomes the bundle's config.json: what the image tool wrote, changed by what was asked.

mod devices;
pub mod exec;
mod mounts;
mod namespaces;
pub use namespaces::is_cgroup_v2;
pub mod process;
pub mod resources;
mod security;

use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::container::Container;
use contracts::network;
use serde_json::{Map, Value, json};
use sys::path::Root;

use crate::container::Store;

/// Merges `record` into the spec that the image tool made. `rootfs` is mounted: users are looked up in it.
pub fn merge(store: &Store, record: &mut Container, spec: &mut Value, rootfs: &Root) -> Result<()> {
    let host = &record.host_config;
    process::apply(record, spec, rootfs)?;
    set(spec, "/root/readonly", json!(host.readonly_rootfs));
    set(spec, "/hostname", json!(hostname(record)));
    if !record.config.domainname.is_empty() {
        set(spec, "/domainname", json!(record.config.domainname));
    }
    mounts::apply(record, spec)?;
    namespaces::apply(store, record, spec)?;
    devices::apply(record, spec)?;
    let resources = resources::of(&record.host_config)?;
    merge_into(object(spec, "/linux/resources"), resources);
    for (name, value) in &record.host_config.sysctls {
        object(spec, "/linux/sysctl").insert(name.clone(), json!(value));
    }
    for (key, value) in &record.host_config.annotations {
        object(spec, "/annotations").insert(key.clone(), json!(value));
    }
    set(spec, "/linux/cgroupsPath", json!(cgroups_path(record)));
    security::apply(record, spec)?;
    record.host_config.masked_paths = strings(spec, "/linux/maskedPaths");
    record.host_config.readonly_paths = strings(spec, "/linux/readonlyPaths");
    Ok(())
}

/// The parameter of a network namespace that leaves IPv6 out.
const NO_IPV6: &str = "net.ipv6.conf.all.disable_ipv6";

/// Adds what `netctl up` made: the namespace to join and the files to mount. Also right for a second start.
pub fn join_network(spec: &mut Value, network: &network::Status) {
    if let Some(list) = spec.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut) {
        list.retain(|namespace| namespace["type"] != "network");
        if let Some(path) = &network.netns {
            list.push(json!({ "type": "network", "path": path }));
        } else if network.unnamed {
            list.push(json!({ "type": "network" }));
        }
    }
    if network.unnamed && Path::new("/proc/sys").join(NO_IPV6.replace('.', "/")).exists() {
        // As netctl has it in those that it makes.
        object(spec, "/linux/sysctl").entry(NO_IPV6).or_insert_with(|| json!("1"));
    }
    if let Some(path) = &network.userns {
        namespaces::join_user(spec, path);
    }
    let mut files = Vec::new();
    for (target, source) in [
        ("/etc/resolv.conf", &network.resolv_conf),
        ("/etc/hostname", &network.hostname_file),
        ("/etc/hosts", &network.hosts),
    ] {
        if let Some(source) = source {
            files.push((target, source));
        }
    }
    let Some(mounts) = spec.pointer_mut("/mounts").and_then(Value::as_array_mut) else { return };
    for (target, source) in files {
        // A mount of the user's on that very file wins.
        let ours = |mount: &Value| {
            mount["source"].as_str().is_some_and(|known| Path::new(known) == source.as_path())
        };
        if mounts.iter().any(|mount| mount["destination"] == target && !ours(mount)) {
            continue;
        }
        mounts.retain(|mount| mount["destination"] != target);
        mounts.push(json!({
            "destination": target, "type": "bind", "source": source, "options": ["rbind", "rprivate", "rw"],
        }));
    }
}

/// What `netctl up` is asked at a start: who owns the network namespace is known only now.
pub fn network_request(store: &Store, record: &Container) -> Result<network::Request> {
    let userns = namespaces::joined_user(store, record)?;
    let unnamed = namespaces::is_unnamed(&record.network);
    let joins = namespaces::unnamed_network_joined(store, record)?;
    Ok(network::Request { userns, unnamed, joins, ..record.network.clone() })
}

/// Finds the processes again whose namespaces the container joins: they may be others since it was made.
pub fn join_others(store: &Store, record: &Container, spec: &mut Value) -> Result<()> {
    namespaces::rejoin(store, record, spec)
}

/// For the next run under the same supervisor: the processes whose namespaces the container joins may be others by now, and
/// their numbers anybody's.
pub fn join_again(store: &Store, record: &Container) -> Result<()> {
    if !namespaces::joins_others(record) {
        return Ok(());
    }
    let bundle = store.bundle(&record.id);
    let mut config = read(&bundle)?;
    join_others(store, record, &mut config)?;
    contracts::atomic::write_json_volatile(&bundle.join("config.json"), &config, 0o600)
}

/// The host name inside: the user's, else the short id; empty where the UTS namespace is the host's.
pub fn hostname(record: &Container) -> String {
    match () {
        () if record.host_config.uts_mode == "host" => String::new(),
        () if !record.config.hostname.is_empty() => record.config.hostname.clone(),
        () => record.id.chars().take(12).collect(),
    }
}

/// Where the container's cgroups are: `/bulkhead/<id>`, or below the parent that was asked for.
pub fn cgroups_path(record: &Container) -> String {
    let parent = match record.host_config.cgroup_parent.trim_matches('/') {
        "" => "bulkhead",
        parent => parent,
    };
    // A slice is systemd's: the runtime's systemd driver takes `slice:prefix:name`.
    if parent.ends_with(".slice") {
        format!("{parent}:bulkhead:{}", record.id)
    } else {
        format!("/{parent}/{}", record.id)
    }
}

/// Reads a bundle's config.json.
pub fn read(bundle: &Path) -> Result<Value> {
    let path = bundle.join("config.json");
    contracts::atomic::read_json(&path)?.with_context(|| format!("read {}: no such file", path.display()))
}

fn set(spec: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    object(spec, parent).insert(key.to_owned(), value);
}

/// The object at `pointer`, made where it is missing or is something else.
fn object<'a>(spec: &'a mut Value, pointer: &str) -> &'a mut Map<String, Value> {
    let mut at = spec;
    for key in pointer.split('/').filter(|key| !key.is_empty()) {
        at = as_object(at).entry(key).or_insert_with(|| json!({}));
    }
    as_object(at)
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// The list at `pointer`, made where it is missing.
fn list<'a>(spec: &'a mut Value, pointer: &str) -> &'a mut Vec<Value> {
    let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
    let value = object(spec, parent).entry(key).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made a list above"),
    }
}

fn strings(spec: &Value, pointer: &str) -> Vec<String> {
    let list = spec.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn merge_into(to: &mut Map<String, Value>, from: Value) {
    let Value::Object(from) = from else { return };
    for (key, value) in from {
        match (to.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge_into(old, Value::Object(new)),
            (_, value) => drop(to.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests;

/// Sets limits in a finished config.json.
pub fn set_resources(spec: &mut Value, limits: Value) {
    merge_into(object(spec, "/linux/resources"), limits);
}
