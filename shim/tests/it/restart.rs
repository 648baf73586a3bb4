use crate::rig::{Rig, kill, wait_until};

#[test]
fn on_failure_counts() {
    let rig = Rig::new();
    rig.ok(&[
        "run",
        "-d",
        "--name",
        "r1",
        "--network",
        "none",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo x; exit 4",
    ]);
    assert!(wait_until(|| rig.inspect("r1", "{{.State.Status}}") == "exited"));
    assert_eq!(rig.inspect("r1", "{{.RestartCount}} {{.State.ExitCode}}"), "2 4");
    assert_eq!(rig.ok(&["logs", "r1"]), "x\nx\nx");
}

#[test]
fn always_starts_again_until_stopped() {
    let rig = Rig::new();
    rig.ok(&["run", "-d", "--name", "r2", "--network", "none", "--restart", "always", "busybox", "true"]);
    assert!(wait_until(|| rig.inspect("r2", "{{.RestartCount}}") == "2"));
    rig.ok(&["stop", "r2"]);
    assert_eq!(rig.inspect("r2", "{{.State.Status}}"), "exited");
}

#[test]
fn a_restart_is_counted_from_when_it_is_waited_for() {
    let rig = Rig::new();
    rig.ok(&["run", "-d", "--name", "r5", "--network", "none", "--restart", "always", "busybox", "true"]);
    assert!(wait_until(|| {
        let waits = || rig.inspect("r5", "{{.State.Status}} {{.RestartCount}}");
        let before = waits();
        let starts =
            rig.ok(&["events", "--since", "1h", "--until", "0s", "-f", "event=start"]).lines().count();
        before == format!("restarting {starts}") && waits() == before
    }));
    rig.ok(&["stop", "r5"]);
}

#[test]
fn a_kill_from_outside_restarts_but_the_users_does_not() {
    let rig = Rig::new();
    rig.sleeper("r3", &["--restart", "always"]);
    kill(rig.inspect("r3", "{{.State.Pid}}").parse().unwrap());
    assert!(wait_until(|| rig.inspect("r3", "{{.RestartCount}} {{.State.Status}}") == "1 running"));
    rig.ok(&["kill", "r3"]);
    assert_eq!(rig.inspect("r3", "{{.RestartCount}} {{.State.Status}}"), "1 exited");
}

#[test]
fn the_policy_changes_live() {
    let rig = Rig::new();
    rig.sleeper("r4", &["--restart", "always"]);
    rig.ok(&["update", "--restart", "no", "r4"]);
    kill(rig.inspect("r4", "{{.State.Pid}}").parse().unwrap());
    assert!(wait_until(|| rig.inspect("r4", "{{.State.Status}}") == "exited"));
    assert_eq!(rig.inspect("r4", "{{.HostConfig.RestartPolicy.Name}} {{.RestartCount}}"), "no 0");
}
