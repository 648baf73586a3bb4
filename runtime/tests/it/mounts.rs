//! `mounts add`, `mounts remove`.

use std::fs;

use serde_json::json;

use crate::rig::{Rig, can_run};

#[test]
fn mounts_come_and_go_while_it_runs() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    fs::create_dir(rig.path().join("data")).unwrap();
    fs::write(rig.path().join("data/file"), "hello").unwrap();
    rig.runtime(&["run", "-d", "@c"]).ok();
    let list = rig.path().join("mounts.json");
    let mounts = json!({ "mounts": [
        { "destination": "/mnt/data", "type": "bind", "source": rig.path().join("data"), "options": ["rbind", "ro"] },
        { "destination": "/mnt/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "nosuid"] },
    ] });
    fs::write(&list, mounts.to_string()).unwrap();
    let list = list.to_str().unwrap();
    rig.runtime(&["mounts", "add", "@c", list]).ok();
    assert_eq!(rig.runtime(&["exec", "@c", "cat", "/mnt/data/file"]).ok(), "hello");
    assert_ne!(rig.runtime(&["exec", "@c", "touch", "/mnt/data/new"]).code, 0, "read-only");
    rig.runtime(&["exec", "@c", "touch", "/mnt/scratch/new"]).ok();
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!host.contains("/mnt/scratch"), "the host sees it");
    rig.runtime(&["mounts", "remove", "@c", list]).ok();
    assert_ne!(rig.runtime(&["exec", "@c", "cat", "/mnt/data/file"]).code, 0);
    // Nothing is mounted there any more.
    let said = rig.runtime(&["mounts", "remove", "@c", list]);
    assert!(said.code != 0 && said.err.contains("/mnt/scratch"), "{said:?}");
}

#[test]
fn a_destination_cannot_lead_out_of_the_container() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    let outside = rig.path().join("outside");
    fs::create_dir(&outside).unwrap();
    // Where the link leads inside the container.
    fs::create_dir_all(rig.rootfs().join(outside.strip_prefix("/").unwrap())).unwrap();
    std::os::unix::fs::symlink(&outside, rig.rootfs().join("out")).unwrap();
    rig.runtime(&["run", "-d", "@c"]).ok();
    let list = rig.path().join("mounts.json");
    let mount = json!([{ "destination": "/out", "type": "tmpfs", "source": "tmpfs" }]);
    fs::write(&list, mount.to_string()).unwrap();
    rig.runtime(&["mounts", "add", "@c", list.to_str().unwrap()]).ok();
    let inside = format!("{}/x", outside.display());
    rig.runtime(&["exec", "@c", "touch", &inside]).ok();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "the host's directory is as it was");
}

#[test]
fn mistakes_are_named() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let list = rig.path().join("mounts.json");
    fs::write(&list, "[]").unwrap();
    let path = list.to_str().unwrap();
    rig.runtime(&["mounts", "add", "nobody", path]).fails(3);
    rig.runtime(&["create", "@c"]).ok();
    rig.runtime(&["mounts", "add", "@c", path]).ok();
    fs::write(&list, "7").unwrap();
    assert!(rig.runtime(&["mounts", "add", "@c", path]).fails(2).contains("not a list of mounts"));
    fs::write(&list, "{").unwrap();
    rig.runtime(&["mounts", "add", "@c", path]).fails(2);
    rig.runtime(&["kill", "@c", "KILL"]).ok();
    rig.wait_for_status("c", "stopped");
    fs::write(&list, "[]").unwrap();
    rig.runtime(&["mounts", "add", "@c", path]).fails(4);
}
