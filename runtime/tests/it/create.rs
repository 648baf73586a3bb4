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

/// As the specification has it for properties that a runtime does not know.
#[test]
fn sections_of_other_platforms_mean_nothing() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/echo", "here"]).with(|config| {
        config["windows"] = json!({ "layerFolders": ["C:\\\\Layers"], "network": { "endpointList": ["x"] } });
        config["solaris"] = json!({ "limitpriv": "default" });
        config["vm"] = json!({ "kernel": { "path": "/vmlinuz" } });
        config["zos"] = json!({ "namespaces": [] });
        config["freebsd"] = json!({ "jail": { "parent": "x" } });
    });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "here\n");
    rig.is_clean();
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

#[test]
fn the_terminal_goes_to_the_console_socket() {
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;
    if !can_run() {
        return;
    }
    let rig = Rig::script("echo hello").with(|config| config["process"]["terminal"] = true.into());
    let line = rig.runtime(&["create", "@c"]).fails(2);
    assert!(line.contains("console socket"), "{line}");
    let path = rig.path().join("console");
    let listener = UnixListener::bind(&path).unwrap();
    rig.runtime(&["create", "--console-socket", path.to_str().unwrap(), "@c"]).ok();
    let (stream, _) = listener.accept().unwrap();
    let mut name = [0; 64];
    let (length, master) = sys::pass_fd::receive(&stream, &mut name).unwrap();
    assert_eq!(&name[..length], b"/dev/ptmx");
    rig.runtime(&["start", "@c"]).ok();
    let mut text = [0; 7];
    fs::File::from(master.unwrap()).read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello\r\n");
}
