use crate::rig::Rig;

#[test]
fn frozen_and_thawed() {
    let rig = Rig::new();
    rig.sleeper("p1", &[]);
    rig.ok(&["pause", "p1"]);
    assert_eq!(rig.inspect("p1", "{{.State.Status}}"), "paused");
    assert!(rig.ok(&["ps"]).contains("(Paused)"));
    assert!(rig.fails(125, &["exec", "p1", "true"]).contains("paused"));
    assert!(rig.fails(4, &["pause", "p1"]).contains("already paused"));
    rig.ok(&["unpause", "p1"]);
    assert!(rig.fails(4, &["unpause", "p1"]).contains("not paused"));
    rig.ok(&["pause", "p1"]);
    rig.ok(&["stop", "-t", "1", "p1"]);
    assert_eq!(rig.inspect("p1", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
}
