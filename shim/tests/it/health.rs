use crate::rig::{Rig, wait_until};

#[test]
fn unhealthy_then_healthy() {
    let rig = Rig::new();
    let flags = ["--health-cmd", "test -f /tmp/ok", "--health-interval", "100ms", "--health-retries", "2"];
    rig.sleeper("hc", &flags);
    assert!(wait_until(|| rig.inspect("hc", "{{.State.Health.Status}}") == "unhealthy"));
    rig.ok(&["exec", "hc", "touch", "/tmp/ok"]);
    assert!(wait_until(|| rig.inspect("hc", "{{.State.Health.Status}}") == "healthy"));
    assert!(rig.ok(&["ps", "-f", "health=healthy"]).contains("(healthy)"));
    rig.ok(&["healthcheck", "run", "hc"]);
}

#[test]
fn a_check_that_hangs_is_a_failure() {
    let rig = Rig::new();
    let flags = [
        "--health-cmd",
        "sleep 9",
        "--health-interval",
        "100ms",
        "--health-timeout",
        "200ms",
        "--health-retries",
        "1",
    ];
    rig.sleeper("hang", &flags);
    assert!(wait_until(|| rig.inspect("hang", "{{.State.Health.Status}}") == "unhealthy"));
    let log = rig.inspect("hang", "{{json (index .State.Health.Log 0)}}");
    assert!(log.contains("exceeded timeout (200ms)"), "{log}");
}

#[test]
fn an_unhealthy_container_can_be_restarted() {
    let rig = Rig::new();
    let flags = [
        "--health-cmd",
        "false",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
        "--stop-timeout",
        "0",
    ];
    let mut all = flags.to_vec();
    all.extend(["--health-on-failure", "restart"]);
    rig.sleeper("auto", &all);
    let before = rig.inspect("auto", "{{.State.Pid}}");
    assert!(wait_until(
        || rig.inspect("auto", "{{.State.Pid}}") != before && rig.inspect("auto", "{{.RestartCount}}") != "0"
    ));
}
