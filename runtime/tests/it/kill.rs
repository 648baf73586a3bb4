//! `kill`.

use crate::rig::{Rig, can_run, wait_until};

#[test]
fn sends_the_signal_by_name_or_number() {
    if !can_run() {
        return;
    }
    let rig =
        Rig::script("trap 'echo got > /tmp/usr1' USR1; echo > /tmp/ready; while :; do sleep 0.01; done");
    rig.runtime(&["run", "-d", "@c"]).ok();
    wait_until("the trap", || rig.rootfs().join("tmp/ready").exists());
    rig.runtime(&["kill", "@c", "SIGUSR1"]).ok();
    wait_until("the signal", || rig.rootfs().join("tmp/usr1").exists());
    rig.runtime(&["kill", "@c", "9"]).ok();
    rig.wait_for_status("c", "stopped");
    let line = rig.runtime(&["kill", "@c"]).fails(4);
    assert!(line.contains("container not running"), "{line}");
}

#[test]
fn refuses_nonsense() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["kill", "nobody"]).fails(3);
    let line = rig.runtime(&["kill", "nobody", "FOO"]).fails(2);
    assert!(line.contains("unknown signal \"FOO\""), "{line}");
}

#[test]
fn a_pattern_stands_for_all_that_match() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    for name in ["web-1", "web-2", "db"] {
        rig.runtime(&["run", "-d", &format!("@{name}")]).ok();
    }
    rig.runtime(&["kill", "--regex", "web-[0-9]$", "KILL"]).ok();
    rig.wait_for_status("web-1", "stopped");
    rig.wait_for_status("web-2", "stopped");
    assert_eq!(rig.status("db"), "running");
    rig.runtime(&["delete", "-r", "web-"]).ok();
    assert_eq!(rig.runtime(&["list", "-q"]).ok(), format!("{}\n", rig.id("db")));
    rig.runtime(&["delete", "--regex", "("]).fails(2);
    rig.runtime(&["delete", "-f", "--regex", "."]).ok();
    rig.is_clean();
}
