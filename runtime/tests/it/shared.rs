//! What a container shares with the runtime, or shows it: mount namespace and propagation.

use std::fs;

use serde_json::json;

use crate::rig::{Rig, can_run};

/// Mounts of this process that lie below the rig.
fn mounts(rig: &Rig) -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = rig.path().to_str().unwrap();
    all.lines().filter(|line| line.contains(below)).map(str::to_owned).collect()
}

/// A container with a PID namespace and no other.
fn without_mount_namespace(script: &str) -> Rig {
    Rig::script(script).with(|config| {
        config["linux"]["namespaces"] = json!([{ "type": "pid" }]);
        config.as_object_mut().unwrap().remove("hostname");
    })
}

#[test]
fn without_a_mount_namespace_its_mounts_go_with_it() {
    if !can_run() {
        return;
    }
    let rig = without_mount_namespace("readlink /proc/self/ns/mnt; touch /tmp/inside; ls /; touch /sys/x");
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!(said.out.lines().next(), own.to_str(), "{said:?}");
    assert!(said.out.contains("\ntmp\n") && said.err.contains("Read-only file system"), "{said:?}");
    assert!(rig.rootfs().join("tmp/inside").exists());
    assert_eq!(mounts(&rig), Vec::<String>::new());
    rig.is_clean();
}

#[test]
fn exec_enters_the_root_of_a_container_without_a_mount_namespace() {
    if !can_run() {
        return;
    }
    let rig = without_mount_namespace("sleep 1000");
    fs::write(rig.rootfs().join("etc/which"), "the container's\n").unwrap();
    rig.runtime(&["create", "@c"]).ok();
    rig.runtime(&["start", "@c"]).ok();
    assert_eq!(rig.runtime(&["exec", "@c", "cat", "/etc/which"]).ok(), "the container's\n");
    assert!(!mounts(&rig).is_empty(), "the kernel lets us share a mount namespace");
    rig.runtime(&["delete", "--force", "@c"]).ok();
    assert_eq!(mounts(&rig), Vec::<String>::new());
    rig.is_clean();
}

#[test]
fn a_failed_creation_unmounts_what_it_mounted() {
    if !can_run() {
        return;
    }
    let rig = without_mount_namespace("true").with(|config| {
        config["process"]["args"] = json!(["/missing"]);
    });
    rig.runtime(&["create", "@c"]).fails(127);
    assert_eq!(mounts(&rig), Vec::<String>::new());
    rig.is_clean();
}

#[test]
fn every_propagation_of_the_root() {
    if !can_run() {
        return;
    }
    for (word, shown) in [
        ("private", ""),
        ("slave", ""),
        ("shared", "shared:"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let rig = Rig::script("grep ' / / ' /proc/self/mountinfo || grep -m1 ' / ' /proc/self/mountinfo")
            .with(|config| config["linux"]["rootfsPropagation"] = word.into());
        let said = rig.runtime(&["run", "@c"]).ok();
        let tags: Vec<&str> = said.split(" - ").next().unwrap_or_default().split(' ').skip(6).collect();
        let is = tags.iter().any(|tag| !shown.is_empty() && tag.starts_with(shown));
        assert_eq!(is, !shown.is_empty(), "{word}: {said}");
        assert!(word != "private" || tags.is_empty(), "{word}: {said}");
    }
}
