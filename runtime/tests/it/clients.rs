//! What clients look for in the words of a failure, as they read them from the JSON log.

use std::fs;

use serde_json::Value;

use crate::rig::{Rig, can_run};

/// The last message in the log of a command that fails with `code`.
fn message(rig: &Rig, code: i32, command: &[&str]) -> String {
    let log = rig.path().join("client.log");
    let path = log.to_str().unwrap();
    rig.runtime(&[&["--log", path, "--log-format", "json"], command].concat()).fails(code);
    let text = fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(line["level"], "error", "containerd takes the last line of this level");
    line["msg"].as_str().unwrap().to_owned()
}

/// containerd's `checkKillError` and podman's `KillContainer`: a process that has ended is no failure of a kill.
#[test]
fn what_has_ended_is_not_running() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["create", "@c"]).ok();
    rig.runtime(&["start", "@c"]).ok();
    rig.wait_for_status("c", "stopped");
    for command in [["kill", "@c", "KILL"].as_slice(), &["kill", "@c", "9"], &["kill", "@c"]] {
        let said = message(&rig, 4, command);
        assert!(said.contains("container not running"), "{said}");
    }
    // containerd and Docker refuse these by the same words.
    for command in [["pause", "@c"].as_slice(), &["update", "--pids-limit", "9", "@c"]] {
        let said = message(&rig, 4, command);
        assert!(said.contains("not running"), "{command:?}: {said}");
    }
}

/// containerd and podman take a container that does not exist for one that is deleted already.
#[test]
fn what_is_gone_does_not_exist() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    for command in [
        ["state", "gone"].as_slice(),
        &["start", "gone"],
        &["kill", "gone", "KILL"],
        &["delete", "gone"],
        &["pause", "gone"],
        &["resume", "gone"],
        &["ps", "gone"],
        &["update", "--pids-limit", "9", "gone"],
        &["events", "--stats", "gone"],
        &["checkpoint", "gone"],
    ] {
        let said = message(&rig, 3, command);
        assert!(said.contains("does not exist"), "{command:?}: {said}");
    }
    rig.runtime(&["delete", "--force", "gone"]).ok();
}

/// Docker makes 127 and 126 of these words (`translateContainerdStartErr`), podman its ErrOCIRuntimeNotFound and
/// ErrOCIRuntimePermissionDenied (`getOCIRuntimeError`).
#[test]
fn programs_that_are_missing_or_forbidden() {
    if !can_run() {
        return;
    }
    for (program, code, text) in [
        ("missing", 127, "executable file not found in $PATH"),
        ("/bin/missing", 127, "no such file or directory"),
        ("/etc/passwd", 126, "permission denied"),
        ("/etc", 126, "permission denied"),
        ("/etc/passwd/below", 126, "not a directory"),
    ] {
        let rig = Rig::new(&[program]);
        let said = message(&rig, code, &["create", "@c"]);
        assert!(said.contains(text), "{program}: {said}");
        rig.is_clean();

        let rig = Rig::new(&["/bin/sleep", "100"]);
        rig.runtime(&["run", "-d", "@c"]).ok();
        let said = message(&rig, code, &["exec", "@c", program]);
        assert!(said.contains(text), "exec {program}: {said}");
    }
}

/// containerd asks again under another name where an id is taken, by the words of runc's error.
#[test]
fn a_taken_id_already_exists() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    rig.runtime(&["create", "@c"]).ok();
    let log = rig.path().join("client.log");
    let said = rig.runtime(&["--log", log.to_str().unwrap(), "--log-format", "json", "create", "@c"]);
    assert_ne!(said.code, 0);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("container with given ID already exists"), "{text}");
}
