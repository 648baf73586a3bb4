//! `update`, and the limits a container starts with.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;

use crate::rig::{Rig, can_run};

/// Two limits that every machine has, by the cgroup version it runs.
fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn limited() -> Rig {
    Rig::new(&["/bin/sleep", "1000"]).with(|config| {
        config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432});
        config["linux"]["resources"]["pids"] = json!({"limit": 40});
    })
}

/// The memory and pids limits that the container's first process is under.
fn limits(rig: &Rig) -> [String; 2] {
    let state = rig.root().join(rig.id("c")).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
    let dir = |controller: &str| -> PathBuf {
        let dirs = state["cgroup"]["dirs"].as_array().unwrap();
        let wanted = if is_v2() { "" } else { controller };
        dirs.iter().find(|dir| dir["controllers"] == wanted).unwrap()["path"].as_str().unwrap().into()
    };
    let memory = dir("memory").join(if is_v2() { "memory.max" } else { "memory.limit_in_bytes" });
    [memory, dir("pids").join("pids.max")].map(|file| fs::read_to_string(file).unwrap().trim().to_owned())
}

#[test]
fn limits_stand_at_the_start_and_change_by_flags() {
    if !can_run() {
        return;
    }
    let rig = limited();
    rig.runtime(&["run", "-d", "@c"]).ok();
    assert_eq!(limits(&rig), ["33554432", "40"]);
    rig.runtime(&["update", "--memory", "64m", "@c"]).ok();
    assert_eq!(limits(&rig), ["67108864", "40"]);
    rig.runtime(&["update", "--pids-limit", "-1", "--cpu-share", "300", "@c"]).ok();
    assert_eq!(limits(&rig), ["67108864", "max"]);
}

#[test]
fn limits_change_by_a_document() {
    if !can_run() {
        return;
    }
    let rig = limited();
    rig.runtime(&["run", "-d", "@c"]).ok();
    let mut child = rig.command(&["update", "--resources", "-", "@c"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(br#"{"pids": {"limit": 33}}"#).unwrap();
    assert!(child.wait().unwrap().success());
    let file = rig.path().join("limits.json");
    fs::write(&file, r#"{"memory": {"limit": 50331648}}"#).unwrap();
    rig.runtime(&["update", "-r", file.to_str().unwrap(), "@c"]).ok();
    assert_eq!(limits(&rig), ["50331648", "33"]);
}

#[test]
fn nonsense_changes_nothing() {
    if !can_run() {
        return;
    }
    let rig = limited();
    rig.runtime(&["update", "--memory", "1g", "nobody"]).fails(3);
    rig.runtime(&["run", "-d", "@c"]).ok();
    assert!(rig.runtime(&["update", "--memory", "lots", "@c"]).fails(2).contains("\"lots\""));
    let file = rig.path().join("broken.json");
    fs::write(&file, r#"{"memory": "#).unwrap();
    assert!(rig.runtime(&["update", "-r", file.to_str().unwrap(), "@c"]).fails(1).contains("broken.json"));
    fs::write(&file, r#"{"memory": {"limit": 1000, "checkBeforeUpdate": true}}"#).unwrap();
    assert!(rig.runtime(&["update", "-r", file.to_str().unwrap(), "@c"]).fails(1).contains("in use"));
    if !Path::new("/sys/fs/resctrl/info/L3").exists() {
        rig.runtime(&["update", "--l3-cache-schema", "L3:0=f", "@c"]).fails(7);
    }
    assert_eq!(limits(&rig), ["33554432", "40"]);
}

#[test]
fn a_limit_that_cannot_be_set_leaves_no_container() {
    if !can_run() {
        return;
    }
    let rig = limited().with(|config| config["linux"]["resources"]["cpu"] = json!({"cpus": "4000"}));
    let line = rig.runtime(&["create", "@c"]).fails(1);
    assert!(line.contains("cpuset.cpus"), "{line}");
    rig.is_clean();
}

/// What podman's and Docker's `--pids-limit 0` asks for.
#[test]
fn a_limit_of_no_processes_is_no_limit() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("/bin/true & wait; echo forked")
        .with(|config| config["linux"]["resources"]["pids"] = json!({"limit": 0}));
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "forked\n");
}
