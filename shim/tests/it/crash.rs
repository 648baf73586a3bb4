//! Whatever is killed, the next command shows the truth, and nothing is lost or left.

use crate::rig::{Rig, kill, wait_until};

#[test]
fn a_payload_that_outlives_its_supervisor_is_taken_over() {
    let rig = Rig::new();
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
    let id = rig.ok(&["run", "-d", "--name", "orphan", "--network", "none", "busybox", "sh", "-c", script]);
    let pid = rig.inspect("orphan", "{{.State.Pid}}");
    kill(rig.supervisor(&id));
    assert!(wait_until(
        || rig.inspect("orphan", "{{.State.Status}} {{.State.Pid}}") == format!("running {pid}")
    ));
    let before = rig.ok(&["logs", "orphan"]).lines().count();
    assert!(
        wait_until(|| rig.ok(&["logs", "orphan"]).lines().count() > before + 3),
        "its output is logged again"
    );
    let log = rig.ok(&["logs", "orphan"]);
    let numbers: Vec<usize> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "no line was lost in between");
    rig.ok(&["rm", "-f", "orphan"]);
    assert!(rig.left().is_empty(), "{:?}", rig.left());
}

#[test]
fn supervisor_and_payload_killed() {
    let rig = Rig::new();
    let id = rig.sleeper("both", &[]);
    let pid = rig.inspect("both", "{{.State.Pid}}").parse().unwrap();
    kill(rig.supervisor(&id));
    kill(pid);
    assert!(wait_until(|| rig.inspect("both", "{{.State.Status}}") == "exited"));
    rig.ok(&["start", "both"]);
    assert_eq!(rig.inspect("both", "{{.State.Status}}"), "running");
}

#[test]
fn a_container_with_rm_goes_even_if_its_supervisor_was_killed() {
    let rig = Rig::new();
    let id = rig.sleeper("temp", &["--rm", "-v", "/anonymous"]);
    let pid = rig.inspect("temp", "{{.State.Pid}}").parse().unwrap();
    kill(rig.supervisor(&id));
    kill(pid);
    assert!(wait_until(|| rig.ok(&["ps", "-aq"]).is_empty()));
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
    assert_eq!(rig.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn after_a_reboot_nothing_runs_and_boot_starts_what_should() {
    let rig = Rig::new();
    for (name, policy) in [("plain", "no"), ("always", "always"), ("stopped", "unless-stopped")] {
        let id = rig.sleeper(name, &["--restart", policy]);
        if name == "stopped" {
            rig.ok(&["stop", "-t", "0", name]);
            continue;
        }
        // What a power cut does: every process and the state directory are gone, the store stays.
        let pid = rig.inspect(name, "{{.State.Pid}}").parse().unwrap();
        kill(rig.supervisor(&id));
        kill(pid);
        std::fs::remove_dir_all(rig.state().join("shim").join(&id)).unwrap();
    }
    assert_eq!(rig.inspect("plain", "{{.State.Status}} {{.State.ExitCode}}"), "exited 255");
    rig.ok(&["boot"]);
    assert_eq!(rig.ok(&["ps", "--format", "{{.Names}}"]), "always");
}

#[test]
fn a_killed_create_leaves_nothing_that_stays() {
    let rig = Rig::new();
    for delay in [2, 5, 10, 20, 40] {
        let mut child = rig.shim(&["create", "--name", "half", "busybox"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        let _ = child.kill();
        child.wait().unwrap();
        // The name must be free again, unless the container was finished.
        if rig.run(&["inspect", "half"]).code == 0 {
            rig.ok(&["rm", "half"]);
        }
        rig.ok(&["create", "--name", "half", "busybox"]);
        rig.ok(&["rm", "half"]);
    }
    rig.ok(&["ps", "-a"]);
    assert!(rig.left().is_empty(), "{:?}", rig.left());
}

#[test]
fn the_policy_holds_when_supervisor_and_payload_are_killed() {
    let rig = Rig::new();
    for (name, policy, end) in [
        ("always", "always", "running 1"),
        ("failing", "on-failure:3", "running 1"),
        ("plain", "no", "exited 0"),
        ("stopped", "unless-stopped", "exited 0"),
    ] {
        let id = rig.sleeper(name, &["--restart", policy]);
        if name == "stopped" {
            rig.ok(&["stop", "-t", "0", name]);
        } else {
            let pid = rig.inspect(name, "{{.State.Pid}}").parse().unwrap();
            kill(rig.supervisor(&id));
            kill(pid);
        }
        assert!(wait_until(|| rig.inspect(name, "{{.State.Status}} {{.RestartCount}}") == end), "{name}");
    }
    rig.ok(&["rm", "-f", "always", "failing", "plain", "stopped"]);
    assert!(rig.left().is_empty(), "{:?}", rig.left());
}

#[test]
fn no_line_is_lost_or_torn_when_supervisors_are_killed_again_and_again() {
    let rig = Rig::new();
    // Written in blocks that end in the middle of a line.
    let script = "awk 'BEGIN {for (i = 1; i <= 300000; i++) print i, \"end\"}'; exec sleep 1000";
    let id = rig.ok(&["run", "-d", "--name", "flood", "--network", "none", "busybox", "sh", "-c", script]);
    let last = |rig: &Rig| rig.ok(&["logs", "--tail", "1", "flood"]);
    let mut kills = 0;
    while last(&rig) != "300000 end" {
        if kills < 12 {
            kill(rig.supervisor(&id));
            kills += 1;
        }
        assert_eq!(rig.inspect("flood", "{{.State.Status}}"), "running");
    }
    let mut before = 0;
    for line in rig.ok(&["logs", "flood"]).lines() {
        let number: u32 = line.strip_suffix(" end").and_then(|number| number.parse().ok()).expect(line);
        // What was logged but not yet taken from the pipe comes once more.
        assert!(number <= before + 1, "{number} after {before}");
        before = number;
    }
    assert_eq!(before, 300_000);
    rig.ok(&["rm", "-f", "flood"]);
}

#[test]
fn a_start_while_the_last_supervisor_still_clears_away() {
    let rig = Rig::new();
    // The first run ends at once, and each removal of its supervisor takes a while.
    let script = "[ -e /again ] && exec sleep 1000; touch /again";
    let slow = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=unlink,unlinkat,rmdir"];
    let mut first = std::process::Command::new("strace");
    first.args(slow).args(["-e", "inject=unlink,unlinkat,rmdir:delay_enter=100000"]);
    let run = rig.shim(&["run", "-d", "--name", "twice", "--network", "none", "busybox", "sh", "-c", script]);
    first.arg(run.get_program()).args(run.get_args()).stdin(std::process::Stdio::null());
    first.stdout(std::process::Stdio::null());
    for (name, value) in run.get_envs() {
        first.env(name, value.unwrap_or_default());
    }
    let mut first = first.spawn().unwrap();
    assert!(wait_until(|| {
        let done = rig.run(&["inspect", "-f", "{{.State.Status}}", "twice"]);
        done.out.trim() == "exited"
    }));
    rig.ok(&["start", "twice"]);
    first.wait().unwrap();
    assert_eq!(rig.inspect("twice", "{{.State.Status}} {{.RestartCount}}"), "running 0");
    rig.supervisor(&rig.inspect("twice", "{{.Id}}"));
    rig.ok(&["rm", "-f", "twice"]);
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
}
