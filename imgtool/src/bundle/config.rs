//! An image config turned into a runtime config (OCI image spec, "conversion"), with docker's defaults where the image
//! says nothing.

use anyhow::{Context as _, Result};
use contracts::{passwd, sandbox};
use serde_json::{Map, Value, json};
use sys::path::Root;

use crate::layer::owner::Maps;
use crate::store::config::ImageConfig;
use crate::store::image::Image;

/// Docker's search path for images that set none.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process of a container, before isolation is added.
#[derive(Debug, Clone)]
pub struct Process {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=VALUE`, in the image's order.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// Who it is.
    pub user: passwd::User,
}

/// The config.json of a container of `image` whose rootfs is `root`.
///
/// # Errors
/// The image's user does not exist in the rootfs.
pub fn generate(image: &Image, root: &Root, args: &[String], name: &str) -> Result<Value> {
    let config = &image.config;
    let spec = config.config.get("User").and_then(Value::as_str).unwrap_or_default();
    let user = passwd::resolve(root, spec).with_context(|| format!("user {}", spec.escape_debug()))?;
    let mut command = config.strings("Entrypoint");
    command.extend(if args.is_empty() { config.strings("Cmd") } else { args.to_vec() });
    let cwd = config.config.get("WorkingDir").and_then(Value::as_str).filter(|cwd| !cwd.is_empty());
    let process = Process {
        args: command,
        env: environment(config.strings("Env"), &user.home),
        cwd: absolute(cwd.unwrap_or("/")),
        user,
    };
    let mut spec = runtime_config(&process, &sandbox::CAPABILITIES);
    spec["hostname"] = json!(name.chars().take(63).collect::<String>());
    spec["annotations"] = annotations(config);
    Ok(spec)
}

/// Puts the container into a user namespace with these ids.
pub fn map_ids(spec: &mut Value, maps: &Maps) {
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.push(json!({"type": "user"}));
    }
    spec["linux"]["uidMappings"] = json!(maps.uids);
    spec["linux"]["gidMappings"] = json!(maps.gids);
}

/// Takes away what an ordinary user cannot have: limits, and owners that no id stands for.
pub fn make_rootless(spec: &mut Value, maps: &Maps) {
    map_ids(spec, maps);
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
    }
    let has = |id: u32| {
        maps.gids
            .iter()
            .any(|range| (range.container..range.container.saturating_add(range.size)).contains(&id))
    };
    let options = spec["mounts"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(|mount| mount["options"].as_array_mut());
    for options in options {
        options.retain(|option| {
            let gid = option.as_str().and_then(|text| text.strip_prefix("gid=")?.parse().ok());
            gid.is_none_or(has)
        });
    }
}

/// A config.json without host name and annotations, with the rootfs in `rootfs`.
#[must_use]
pub fn runtime_config(process: &Process, capabilities: &[&str]) -> Value {
    // Docker gives another user than root the bounding set only: programs with file capabilities still work.
    let held: &[&str] = if process.user.uid == 0 { capabilities } else { &[] };
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {
                "uid": process.user.uid,
                "gid": process.user.gid,
                "additionalGids": process.user.additional_gids,
            },
            "args": process.args,
            "env": process.env,
            "cwd": process.cwd,
            "capabilities": {"bounding": capabilities, "effective": held, "permitted": held},
        },
        "root": {"path": "rootfs", "readonly": false},
        "mounts": sandbox::mounts(),
        "linux": {
            "resources": {"devices": sandbox::device_rules()},
            "namespaces": namespaces.map(|kind| json!({"type": kind})),
            "maskedPaths": sandbox::MASKED,
            "readonlyPaths": sandbox::READ_ONLY,
            "seccomp": sandbox::seccomp(capabilities),
        },
    })
}

/// The image's variables with a search path and a home where it sets none.
#[must_use]
pub fn environment(mut env: Vec<String>, home: &str) -> Vec<String> {
    let has = |env: &[String], key: &str| env.iter().any(|entry| entry.split('=').next() == Some(key));
    if !has(&env, "PATH") {
        env.insert(0, format!("PATH={PATH}"));
    }
    if !has(&env, "HOME") {
        env.push(format!("HOME={home}"));
    }
    env
}

/// A working directory as the runtime wants it: absolute and without `..`.
fn absolute(cwd: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in cwd.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The annotations that the image spec's conversion asks for; labels come last and win.
fn annotations(config: &ImageConfig) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            out.insert(format!("org.opencontainers.image.{key}"), json!(value));
        }
    };
    put("os", &config.os);
    put("architecture", &config.architecture);
    put("variant", config.variant.as_deref().unwrap_or_default());
    put("author", config.author.as_deref().unwrap_or_default());
    put("created", config.created.as_deref().unwrap_or_default());
    put("stopSignal", config.config.get("StopSignal").and_then(Value::as_str).unwrap_or_default());
    let ports = config.config.get("ExposedPorts").and_then(Value::as_object);
    let ports: Vec<&str> = ports.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    put("exposedPorts", &ports.join(","));
    for (key, value) in config.labels() {
        out.insert(key, json!(value));
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_leaves_out_is_filled_in() {
        assert_eq!(environment(vec!["A=1".into()], "/root"), [&format!("PATH={PATH}"), "A=1", "HOME=/root"]);
        assert_eq!(environment(vec!["PATH=/x".into(), "HOME=/h".into()], "/root"), ["PATH=/x", "HOME=/h"]);
        assert_eq!(absolute("a/../../b//c/."), "/b/c");
        assert_eq!(absolute(""), "/");
    }
}
