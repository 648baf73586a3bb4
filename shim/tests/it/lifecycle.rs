use std::time::{Duration, Instant};

use crate::rig::{Rig, wait_until};

#[test]
fn stop_asks_then_kills() {
    let rig = Rig::new();
    rig.sleeper("deaf", &[]);
    let start = Instant::now();
    assert_eq!(rig.ok(&["stop", "-t", "1", "deaf"]), "deaf");
    assert!((Duration::from_millis(900)..Duration::from_secs(9)).contains(&start.elapsed()));
    assert_eq!(rig.inspect("deaf", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert_eq!(rig.ok(&["stop", "deaf"]), "deaf", "stopping a stopped one is fine");
}

#[test]
fn the_stop_signal_is_the_containers() {
    let rig = Rig::new();
    let script = "trap 'echo bye; exit 9' USR1; echo ready; while :; do sleep 0.05; done";
    rig.ok(&[
        "run",
        "-d",
        "--name",
        "sig",
        "--network",
        "none",
        "--stop-signal",
        "USR1",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert!(wait_until(|| rig.ok(&["logs", "sig"]) == "ready"));
    rig.ok(&["stop", "sig"]);
    assert_eq!(rig.inspect("sig", "{{.State.ExitCode}}"), "9");
    assert_eq!(rig.ok(&["logs", "sig"]), "ready\nbye");
}

#[test]
fn kill_sends_any_signal() {
    let rig = Rig::new();
    rig.sleeper("kk", &[]);
    assert!(rig.fails(2, &["kill", "-s", "BOGUS", "kk"]).contains("BOGUS"));
    rig.ok(&["kill", "kk"]);
    assert_eq!(rig.inspect("kk", "{{.State.ExitCode}} {{.State.Status}}"), "137 exited");
    assert!(rig.fails(4, &["kill", "kk"]).contains("is not running"));
}

#[test]
fn restart_gives_a_new_process() {
    let rig = Rig::new();
    rig.sleeper("rs", &[]);
    let before = rig.inspect("rs", "{{.State.Pid}}");
    rig.ok(&["restart", "-t", "0", "rs"]);
    assert_ne!(rig.inspect("rs", "{{.State.Pid}}"), before);
    assert_eq!(rig.inspect("rs", "{{.State.Running}} {{.RestartCount}}"), "true 0");
}

#[test]
fn rm_refuses_what_runs_unless_forced() {
    let rig = Rig::new();
    rig.sleeper("busy", &[]);
    assert!(rig.fails(4, &["rm", "busy"]).contains("stop the container"));
    assert_eq!(rig.ok(&["rm", "-f", "busy"]), "busy");
    assert_eq!(rig.run(&["rm", "-f", "busy"]).code, 0, "-f does not mind what is gone");
    rig.fails(3, &["rm", "busy"]);
    assert!(rig.left().is_empty(), "{:?}", rig.left());
}

#[test]
fn wait_prints_the_code() {
    let rig = Rig::new();
    rig.ok(&["run", "-d", "--name", "ww", "--network", "none", "busybox", "sh", "-c", "sleep 0.3; exit 6"]);
    assert_eq!(rig.ok(&["wait", "ww"]), "6");
    assert_eq!(rig.ok(&["wait", "ww"]), "6", "also when it is over");
    rig.fails(3, &["wait", "nosuch"]);
}

#[test]
fn prune_removes_only_what_is_stopped() {
    let rig = Rig::new();
    rig.sleeper("stays", &[]);
    rig.ok(&["create", "--name", "goes", "busybox"]);
    assert!(rig.ok(&["prune", "-f"]).contains("Total reclaimed space"));
    assert_eq!(rig.ok(&["ps", "-a", "--format", "{{.Names}}"]), "stays");
}

#[test]
fn wait_for_a_condition() {
    let rig = Rig::new();
    rig.sleeper(
        "cond",
        &["--health-cmd", "test -e /ok", "--health-interval", "50ms", "--health-retries", "1"],
    );
    let wait = |condition: &str| rig.ok(&["wait", "--interval", "10ms", "--condition", condition, "cond"]);
    assert_eq!(wait("running,paused"), "-1");
    assert_eq!(wait("unhealthy"), "-1");
    rig.ok(&["exec", "cond", "touch", "/ok"]);
    assert_eq!(wait("healthy"), "-1");
    rig.ok(&["kill", "cond"]);
    assert_eq!((wait("stopped"), wait("exited")), ("137".into(), "137".into()));
    let waits =
        rig.shim(&["wait", "--condition", "removed", "cond"]).stdout(std::process::Stdio::piped()).spawn();
    rig.ok(&["rm", "cond"]);
    let done = crate::rig::done(waits.unwrap().wait_with_output().unwrap());
    // Where it was removed before the first look, it is not known any more.
    assert!((done.code, done.out.as_str()) == (0, "137\n") || done.code == 3, "{} {}", done.code, done.out);
    rig.fails(2, &["wait", "--condition", "odd", "cond"]);
    assert!(rig.fails(7, &["inspect", "--type", "image", "cond"]).contains("imgtool inspect"));
    assert!(rig.fails(7, &["rm", "--link", "cond"]).contains("--link"));
}
