//! `ps`.

use serde_json::Value;

use crate::rig::{Rig, can_run, wait_until};

#[test]
fn all_processes_of_the_container_and_no_other() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("sleep 1000 & sleep 1000; true");
    rig.runtime(&["run", "-d", "@c"]).ok();
    let pids = || -> Vec<i32> {
        serde_json::from_str(&rig.runtime(&["ps", "--format", "json", "@c"]).ok()).unwrap()
    };
    wait_until("three processes", || pids().len() == 3);
    let state: Value = serde_json::from_str(&rig.runtime(&["state", "@c"]).ok()).unwrap();
    assert!(pids().iter().any(|pid| state["pid"] == *pid));
    let table = rig.runtime(&["ps", "@c"]).ok();
    assert!(table.lines().next().unwrap().contains("PID"), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    let table = rig.runtime(&["ps", "@c", "-eo", "pid,comm"]).ok();
    assert_eq!(table.lines().filter(|line| line.ends_with("sleep")).count(), 2, "{table}");
    rig.runtime(&["ps", "nobody"]).fails(3);
    assert!(rig.runtime(&["ps", "@c", "-o", "comm"]).fails(1).contains("PID"));
}
