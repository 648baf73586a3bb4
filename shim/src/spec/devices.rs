//! `linux.devices` and the device cgroup rules.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use contracts::container::Container;
use contracts::fault;
use serde_json::{Value, json};

use super::{list, set};

pub fn apply(record: &Container, spec: &mut Value) -> Result<()> {
    let host = &record.host_config;
    for device in &host.devices {
        let mut found = Vec::new();
        collect(Path::new(&device.path_on_host), Path::new(&device.path_in_container), &mut found)
            .with_context(|| {
                format!(
                    "error gathering device information while adding custom device \"{}\"",
                    device.path_on_host
                )
            })?;
        for node in found {
            allow(spec, &node, &device.cgroup_permissions);
            let devices = list(spec, "/linux/devices");
            devices.retain(|known| known["path"] != node["path"]);
            devices.push(node);
        }
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        let rule = rule(text)?;
        list(spec, "/linux/resources/devices").push(rule);
    }
    if host.privileged {
        let mut all = Vec::new();
        every_device(Path::new("/dev"), &mut all);
        set(spec, "/linux/devices", json!(all));
        set(spec, "/linux/resources/devices", json!([{ "allow": true, "access": "rwm" }]));
    }
    Ok(())
}

/// The device at `host`, or every device below it where it is a directory.
fn collect(host: &Path, inside: &Path, found: &mut Vec<Value>) -> Result<()> {
    let meta = fs::metadata(host)?;
    if let Some(node) = node(&meta, inside) {
        found.push(node);
        return Ok(());
    }
    if !meta.is_dir() {
        fault!(Usage, "not a device node");
    }
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        if entry
            .file_type()
            .is_ok_and(|kind| kind.is_dir() || kind.is_block_device() || kind.is_char_device())
        {
            collect(&entry.path(), &inside.join(entry.file_name()), found)?;
        }
    }
    Ok(())
}

fn node(meta: &fs::Metadata, inside: &Path) -> Option<Value> {
    let kind = meta.file_type();
    let kind = match () {
        () if kind.is_block_device() => "b",
        () if kind.is_char_device() => "c",
        () => return None,
    };
    let (major, minor) = (libc::major(meta.rdev()), libc::minor(meta.rdev()));
    Some(json!({
        "path": inside, "type": kind, "major": major, "minor": minor,
        "fileMode": meta.mode() & 0o7777, "uid": meta.uid(), "gid": meta.gid(),
    }))
}

fn allow(spec: &mut Value, node: &Value, access: &str) {
    list(spec, "/linux/resources/devices").push(json!({
        "allow": true, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access,
    }));
}

/// `c 1:3 rwm`; `*` is any number.
fn rule(text: &str) -> Result<Value> {
    let wrong = || {
        format!(
            "invalid argument \"{text}\" for \"--device-cgroup-rule\" flag: invalid device cgroup format '{text}'"
        )
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words[..] else { fault!(Usage, "{}", wrong()) };
    let Some((major, minor)) = numbers.split_once(':') else { fault!(Usage, "{}", wrong()) };
    let fine = ["a", "b", "c"].contains(&kind) && access.chars().all(|c| "rwm".contains(c));
    let number =
        |text: &str| if text == "*" { Some(-1) } else { text.parse::<i64>().ok().filter(|&n| n >= 0) };
    let (Some(major), Some(minor), true) = (number(major), number(minor), fine) else {
        fault!(Usage, "{}", wrong())
    };
    let mut rule = json!({ "allow": true, "type": kind, "access": access });
    for (key, value) in [("major", major), ("minor", minor)] {
        if value >= 0 {
            rule[key] = json!(value);
        }
    }
    Ok(rule)
}

/// All of the host's device nodes but those the container has of its own (terminals, shared memory, queues).
fn every_device(dir: &Path, found: &mut Vec<Value>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
            if !own.iter().any(|name| entry.file_name() == *name) {
                every_device(&path, found);
            }
        } else if entry.file_name() != "console"
            && let Some(node) = entry.metadata().ok().and_then(|meta| node(&meta, &path))
        {
            found.push(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::rule;

    #[test]
    fn rules() {
        assert_eq!(rule("c 1:3 rwm").unwrap()["major"], 1);
        assert!(rule("a *:* rwm").unwrap().get("major").is_none());
        for wrong in ["", "c 1 rwm", "x 1:2 r", "c 1:2 z", "c -1:2 r"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
    }
}
