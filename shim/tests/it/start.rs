use crate::rig::{Rig, wait_until};

#[test]
fn start_again_keeps_files_and_log() {
    let rig = Rig::new();
    let script = "echo run; test -e /mark && exit 7; touch /mark";
    rig.ok(&["run", "--name", "again", "--network", "none", "busybox", "sh", "-c", script]);
    assert_eq!(rig.run(&["start", "-a", "again"]).code, 7);
    assert_eq!(rig.ok(&["logs", "again"]), "run\nrun");
    rig.fails(3, &["start", "nosuch"]);
}

#[test]
fn starting_what_runs_is_fine() {
    let rig = Rig::new();
    rig.sleeper("up", &[]);
    assert_eq!(rig.ok(&["start", "up"]), "up");
}

#[test]
fn a_start_that_fails_says_why_and_leaves_it_startable() {
    let rig = Rig::new();
    rig.ok(&["create", "--name", "bad", "--network", "none", "busybox", "nosuchcmd"]);
    assert!(rig.fails(127, &["start", "bad"]).contains("nosuchcmd"));
    assert!(rig.inspect("bad", "{{.State.Error}}").contains("nosuchcmd"));
    assert!(wait_until(|| std::fs::read_dir(rig.state().join("shim")).unwrap().next().is_none()));
    rig.fails(127, &["start", "bad"]);
    rig.ok(&["rm", "bad"]);
}
