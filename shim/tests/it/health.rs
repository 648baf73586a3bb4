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

#[test]
fn failures_do_not_count_in_the_start_period_and_a_success_ends_it() {
    let rig = Rig::new();
    let flags =
        ["--health-start-period", "1h", "--health-start-interval", "50ms", "--health-interval", "50ms"];
    let check = ["--health-cmd", "echo looked; test -f /tmp/ok", "--health-retries", "1"];
    rig.sleeper("start", &[&flags[..], &check].concat());
    let health = |field: &str| rig.inspect("start", &format!("{{{{.State.Health.{field}}}}}"));
    // Five are kept: more than one has failed.
    assert!(wait_until(|| rig.inspect("start", "{{len .State.Health.Log}}") == "5"));
    assert_eq!((health("Status"), health("FailingStreak")), ("starting".into(), "0".into()));
    assert!(rig.inspect("start", "{{(index .State.Health.Log 0).Output}}").contains("looked"));
    rig.ok(&["exec", "start", "touch", "/tmp/ok"]);
    assert!(wait_until(|| health("Status") == "healthy"));
    rig.ok(&["exec", "start", "rm", "/tmp/ok"]);
    assert!(wait_until(|| health("Status") == "unhealthy"), "the period is over");
    let said = rig.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=health_status"]);
    assert!(said.contains("health_status: healthy") && said.contains("health_status: unhealthy"), "{said}");
}

#[test]
fn the_start_interval_is_for_the_start_period_only() {
    let rig = Rig::new();
    // One check at the start period's pace, and then none for an hour.
    let flags = ["--health-start-period", "1h", "--health-start-interval", "50ms", "--health-interval", "1h"];
    rig.sleeper("pace", &[&flags[..], &["--health-cmd", "true"]].concat());
    assert!(wait_until(|| rig.inspect("pace", "{{.State.Health.Status}}") == "healthy"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(rig.inspect("pace", "{{len .State.Health.Log}}"), "1");
    // By hand, whenever.
    rig.ok(&["healthcheck", "run", "pace"]);
    assert_eq!(rig.inspect("pace", "{{len .State.Health.Log}}"), "2");
    let flags = ["--health-cmd", "echo no good; false", "--health-interval", "1h", "--health-retries", "1"];
    rig.sleeper("bad", &flags);
    assert!(rig.fails(1, &["healthcheck", "run", "bad"]).contains("container bad: unhealthy: no good"));
    assert_eq!(rig.inspect("bad", "{{.State.Health.Status}}"), "unhealthy");
}

#[test]
fn what_an_unhealthy_container_has_to_expect() {
    let rig = Rig::new();
    let check = ["--health-cmd", "false", "--health-interval", "50ms", "--health-retries", "2"];
    let on = |name: &str, action: &str, more: &[&str]| {
        rig.sleeper(
            name,
            &[&check[..], &["--health-on-failure", action, "--stop-timeout", "0"], more].concat(),
        );
    };
    on("none", "none", &[]);
    on("kill", "kill", &[]);
    on("stop", "stop", &["--restart", "always"]);
    on("revive", "kill", &["--restart", "on-failure"]);
    let state = |name: &str| rig.inspect(name, "{{.State.Status}} {{.State.ExitCode}}");
    assert!(wait_until(|| state("kill") == "exited 137"), "{}", state("kill"));
    assert!(wait_until(|| state("stop") == "exited 137"), "{}", state("stop"));
    // The policy starts again what was killed, not what was stopped.
    assert!(wait_until(|| rig.inspect("revive", "{{.RestartCount}}") != "0"));
    assert_eq!(rig.inspect("stop", "{{.RestartCount}}"), "0");
    assert!(wait_until(|| rig.inspect("none", "{{.State.Health.Status}}") == "unhealthy"));
    assert_eq!(state("none"), "running 0");
}

#[test]
fn a_frozen_container_is_not_asked() {
    let rig = Rig::new();
    rig.sleeper("ice", &["--health-cmd", "true", "--health-interval", "50ms"]);
    assert!(wait_until(|| rig.inspect("ice", "{{.State.Health.Status}}") == "healthy"));
    rig.ok(&["pause", "ice"]);
    let last = || rig.inspect("ice", "{{json .State.Health.Log}}");
    // One may have been under way.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let before = last();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(last(), before);
    rig.ok(&["unpause", "ice"]);
    assert!(wait_until(|| last() != before));
}

#[test]
fn the_images_check_and_none() {
    let rig = Rig::new();
    let dockerfile =
        "FROM busybox\nHEALTHCHECK --interval=50ms --retries=1 CMD [\"test\", \"-f\", \"/ok\"]\n";
    rig.build("checked", dockerfile);
    let args = ["run", "-d", "--network", "none", "--name", "inherits", "checked", "sleep", "1000"];
    rig.ok(&args);
    assert!(wait_until(|| rig.inspect("inherits", "{{.State.Health.Status}}") == "unhealthy"));
    // The user's command with the image's pace.
    rig.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "own",
        "--health-cmd",
        "true",
        "checked",
        "sleep",
        "1000",
    ]);
    assert!(wait_until(|| rig.inspect("own", "{{.State.Health.Status}}") == "healthy"));
    rig.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "without",
        "--no-healthcheck",
        "checked",
        "sleep",
        "1000",
    ]);
    assert!(!rig.ok(&["ps", "-f", "name=without"]).contains("health"));
    assert!(rig.fails(4, &["healthcheck", "run", "without"]).contains("no defined healthcheck"));
}

#[test]
fn a_kill_for_memory_is_told_when_it_happens() {
    let rig = Rig::new();
    let hungry = "dd if=/dev/zero of=/dev/null bs=64M count=1; touch /tmp/after; exec sleep 1000";
    let flags = ["run", "-d", "--network", "none", "--name", "hungry", "-m", "16m", "--memory-swap", "16m"];
    rig.ok(&[&flags[..], &["busybox", "sh", "-c", hungry]].concat());
    let events = || rig.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=oom"]);
    assert!(wait_until(|| events().contains("container oom")));
    assert!(wait_until(|| rig.inspect("hungry", "{{.State.OOMKilled}} {{.State.Status}}") == "true running"));
    rig.ok(&["kill", "hungry"]);
    rig.ok(&["wait", "hungry"]);
    assert_eq!(rig.inspect("hungry", "{{.State.OOMKilled}}"), "true");
    assert_eq!(events().lines().count(), 1);
    // A limit that comes later counts as well; the next start forgets.
    rig.sleeper("late", &[]);
    assert_eq!(rig.inspect("late", "{{.State.OOMKilled}}"), "false");
    rig.ok(&["update", "-m", "16m", "--memory-swap", "16m", "late"]);
    rig.run(&["exec", "late", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    assert!(wait_until(|| rig.inspect("late", "{{.State.OOMKilled}}") == "true"));
    rig.ok(&["restart", "-t", "0", "late"]);
    assert_eq!(rig.inspect("late", "{{.State.OOMKilled}}"), "false");
}

#[test]
fn a_startup_check_comes_first_and_its_failures_do_not_count() {
    let rig = Rig::new();
    let flags = [
        "--health-cmd",
        "echo regular; false",
        "--health-interval",
        "50ms",
        "--health-retries",
        "1",
        "--health-startup-cmd",
        "echo startup; test -e /tmp/up",
        "--health-startup-interval",
        "50ms",
        "--health-startup-success",
        "2",
    ];
    rig.sleeper("gate", &flags);
    let log = || rig.inspect("gate", "{{json .State.Health.Log}}");
    let count = |word: &str| log().matches(word).count();
    assert!(wait_until(|| count("startup") == 5));
    assert_eq!((count("regular"), &*rig.inspect("gate", "{{.State.Health.Status}}")), (0, "starting"));
    rig.ok(&["exec", "gate", "touch", "/tmp/up"]);
    assert!(wait_until(|| rig.inspect("gate", "{{.State.Health.Status}}") == "unhealthy"));
    assert!(count("regular") > 0);
    let told = rig.ok(&["events", "--since", "1h", "--until", "0s", "-f", "container=gate"]);
    assert!(told.contains("health_status: healthy"), "its second success is one: {told}");
    assert_eq!(rig.inspect("gate", "{{.RestartCount}}"), "0");
}

#[test]
fn a_startup_check_that_never_passes_starts_the_container_again() {
    let rig = Rig::new();
    let flags = [
        "--health-cmd",
        "true",
        "--health-startup-cmd",
        "false",
        "--health-startup-interval",
        "50ms",
        "--health-startup-retries",
        "2",
        "--stop-timeout",
        "0",
    ];
    rig.sleeper("slow", &flags);
    assert!(wait_until(|| rig.inspect("slow", "{{.RestartCount}}") != "0"));
    for (flags, words) in [
        (&["--health-startup-cmd", "true"][..], "needs a health check"),
        (&["--health-cmd", "true", "--health-startup-retries", "1"], "need --health-startup-cmd"),
        (&["--health-cmd", "true", "--health-log-destination", "/nonexistent"], "existing directory"),
    ] {
        let err = rig.fails(125, &[&["run"][..], flags, &["busybox"]].concat());
        assert!(err.contains(words), "{err}");
    }
}

#[test]
fn results_are_kept_as_many_and_as_long_as_asked_for_and_where() {
    let rig = Rig::new();
    let dir = rig.store().join("results");
    std::fs::create_dir(&dir).unwrap();
    let flags = [
        "--health-cmd",
        "echo 0123456789",
        "--health-interval",
        "50ms",
        "--health-max-log-count",
        "7",
        "--health-max-log-size",
        "4",
        "--health-log-destination",
        dir.to_str().unwrap(),
    ];
    let id = rig.sleeper("kept", &flags);
    let file = dir.join(format!("{id}-healthcheck.log"));
    let results = || {
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
        Some(value["Log"].as_array()?.iter().map(|result| result["Output"].clone()).collect::<Vec<_>>())
    };
    assert!(wait_until(|| results().is_some_and(|results| results.len() == 7)));
    let first = rig.inspect("kept", "{{(index .State.Health.Log 0).Start}}");
    assert!(wait_until(|| rig.inspect("kept", "{{(index .State.Health.Log 0).Start}}") != first));
    assert_eq!(results().unwrap(), ["0123"; 7]);
}
