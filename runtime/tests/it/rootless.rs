//! In a user namespace with one mapped id, by an ordinary user and by root, as `spec --rootless` has it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::rig::{Rig, Said, can_run, run, runtime};

/// Nobody in particular.
const USER: u32 = 65_534;

/// Gives a tree to the user. Links are left: they are only ever read.
fn give(path: &Path, user: u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_symlink() {
        return;
    }
    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

/// Runs a shell script in a container that `user` makes.
fn as_user(user: u32, script: &str, change: impl FnOnce(&mut Value)) -> (Rig, Said) {
    let mut rig = Rig::new(&["/bin/true"]);
    fs::remove_file(rig.bundle().join("config.json")).unwrap();
    rig.runtime(&["spec", "--rootless"]).ok();
    let text = fs::read_to_string(rig.bundle().join("config.json")).unwrap();
    rig.config = serde_json::from_str(&text).unwrap();
    let mut rig = rig.with(|config| {
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map][0]["hostID"] = user.into();
        }
    });
    change(&mut rig.config);
    rig.save();
    // Where the test was built may be closed to others.
    let program = rig.path().join("runtime");
    fs::copy(runtime(), &program).unwrap();
    give(rig.path(), user);
    let mut command = std::process::Command::new(program);
    command.arg("--root").arg(rig.root()).args(["run", "c"]).current_dir(rig.bundle());
    command.stdin(std::process::Stdio::null()).uid(user).gid(user);
    let said = run(&mut command);
    (rig, said)
}

/// CVE-2014-8989: who may drop a group would get by denials that are for that group.
#[test]
fn groups_cannot_be_dropped() {
    if !can_run() {
        return;
    }
    let (_rig, said) = as_user(USER, "cat /proc/self/setgroups; cat /proc/self/uid_map", |_| {});
    let out = said.ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["deny", "0", "65534", "1"]);
    // Groups that are not mapped are asked for in vain.
    let (_rig, said) = as_user(USER, "id", |config| config["process"]["user"]["additionalGids"] = json!([5]));
    let line = said.fails(125);
    assert!(line.contains("additionalGids: cannot be set"), "{line}");
}

/// CVE-2023-25809: without a cgroup namespace the host's hierarchy must not be writable: not even for one whose files they
/// are, which the host's root is in a user namespace too.
#[test]
fn the_hosts_cgroups_are_read_only() {
    if !can_run() {
        return;
    }
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do busybox mkdir $d/y && busybox rmdir $d/y && echo $d; done 2>/dev/null; echo done";
    let written = |options: Option<&[&str]>| {
        let (_rig, said) = as_user(0, script, |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
            let mounts = config["mounts"].as_array_mut().unwrap();
            let cgroups = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
            if let Some(options) = options {
                cgroups["options"] = json!(options);
            }
        });
        said.ok()
    };
    assert_eq!(written(None), "done\n");
    // Where it is asked for, its own can be written to: the test above sees what it looks for.
    assert!(written(Some(&["rw"])).lines().count() > 1);
}
