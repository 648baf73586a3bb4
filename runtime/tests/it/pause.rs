//! `pause` and `resume`.

use std::fs;

use crate::rig::{Rig, can_run, wait_until};

#[test]
fn a_paused_container_stands_still() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("while :; do echo x >> /tmp/steps; sleep 0.01; done");
    let steps = || fs::metadata(rig.rootfs().join("tmp/steps")).map_or(0, |meta| meta.len());
    rig.runtime(&["run", "-d", "@c"]).ok();
    wait_until("the first step", || steps() > 0);
    rig.runtime(&["pause", "@c"]).ok();
    assert_eq!(rig.status("c"), "paused");
    let before = steps();
    rig.runtime(&["pause", "@c"]).fails(4);
    rig.runtime(&["delete", "@c"]).fails(4);
    assert_eq!(steps(), before, "it ran while paused");
    rig.runtime(&["resume", "@c"]).ok();
    assert_eq!(rig.status("c"), "running");
    wait_until("another step", || steps() > before);
    assert!(rig.runtime(&["resume", "@c"]).fails(4).contains("not paused"));
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    for name in ["a", "b"] {
        rig.runtime(&["run", "-d", &format!("@{name}")]).ok();
        rig.runtime(&["pause", &format!("@{name}")]).ok();
    }
    rig.runtime(&["kill", "@a", "KILL"]).ok();
    rig.wait_for_status("a", "stopped");
    rig.runtime(&["delete", "@a"]).ok();
    rig.runtime(&["delete", "--force", "@b"]).ok();
    rig.is_clean();
}

#[test]
fn what_does_not_run_cannot_be_paused() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["pause", "nobody"]).fails(3);
    rig.runtime(&["resume", "nobody"]).fails(3);
    rig.runtime(&["run", "-d", "@c"]).ok();
    rig.wait_for_status("c", "stopped");
    rig.runtime(&["pause", "@c"]).fails(4);
    rig.runtime(&["resume", "@c"]).fails(4);
}
