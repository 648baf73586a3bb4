//! `create` and `start`.

use std::fs;

use serde_json::{Value, json};

use crate::rig::{Rig, can_run};

#[test]
fn waits_for_start() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("echo started > /tmp/mark; exec sleep 1000");
    rig.runtime(&["create", "@c"]).ok();
    assert_eq!(rig.status("c"), "created");
    assert!(!rig.rootfs().join("tmp/mark").exists());
    rig.runtime(&["start", "@c"]).ok();
    assert_eq!(rig.status("c"), "running");
    crate::rig::wait_until("the program's mark", || rig.rootfs().join("tmp/mark").exists());
    let line = rig.runtime(&["start", "@c"]).fails(4);
    assert!(line.contains("cannot start an already running container"), "{line}");
}

#[test]
fn its_state_is_runcs() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]).with(|config| config["annotations"] = json!({ "a": "b" }));
    rig.runtime(&["create", "@c"]).ok();
    let text = rig.runtime(&["state", "@c"]).ok();
    let state: Value = serde_json::from_str(&text).unwrap();
    let keys: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next()).collect();
    let wanted = ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner"];
    assert_eq!(keys, wanted);
    assert_eq!(state["bundle"], rig.bundle().to_str().unwrap());
    assert_eq!(state["annotations"], json!({ "a": "b" }));
}

#[test]
fn a_taken_id_is_refused_and_untouched() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["create", "@c"]).ok();
    let line = rig.runtime(&["create", "@c"]).fails(4);
    assert!(line.contains("container with given ID already exists"), "{line}");
    assert_eq!(rig.status("c"), "created");
}

#[test]
fn errors_of_the_program_come_from_create_or_start() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["missing"]);
    let line = rig.runtime(&["create", "@c"]).fails(127);
    assert!(line.contains("executable file not found in $PATH"), "{line}");
    rig.is_clean();

    // Only the kernel sees that the interpreter is missing, and only when it is executed.
    let rig = Rig::new(&["/bin/script"]);
    fs::write(rig.rootfs().join("bin/script"), "#!/missing\n").unwrap();
    fs::set_permissions(rig.rootfs().join("bin/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    rig.runtime(&["create", "@c"]).ok();
    let line = rig.runtime(&["start", "@c"]).fails(127);
    assert!(line.contains("exec /bin/script: no such file or directory"), "{line}");
    rig.wait_for_status("c", "stopped");
    let line = rig.runtime(&["start", "@c"]).fails(4);
    assert!(line.contains("cannot start a container that has stopped"), "{line}");
}

#[test]
fn the_log_is_what_podman_reads() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["missing"]);
    let log = rig.path().join("log");
    let log = log.to_str().unwrap();
    rig.runtime(&["--log", log, "--log-format", "json", "create", "@c"]).fails(127);
    let line: Value = serde_json::from_str(fs::read_to_string(log).unwrap().trim()).unwrap();
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().unwrap().contains("executable file not found in $PATH"));
    assert!(line["time"].as_str().unwrap().ends_with('Z'));
}
