//! Broken input, full disks, and the runtime killed at any moment.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::rig::{Rig, can_run, run};

#[test]
fn broken_documents() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let cases: [(&str, &str); 6] = [
        ("", "EOF"),
        ("{", "EOF"),
        ("not json", "expected"),
        ("[]", "config.json"),
        (r#"{"ociVersion":"1.0.0","process":7}"#, "invalid type"),
        (r#"{"ociVersion":"9.0.0"}"#, "ociVersion"),
    ];
    for (text, said) in cases {
        fs::write(rig.bundle().join("config.json"), text).unwrap();
        let line = rig.runtime(&["create", "@c"]).fails(2);
        assert!(line.contains(said), "{text}: {line}");
    }
    fs::remove_file(rig.bundle().join("config.json")).unwrap();
    let line = rig.runtime(&["create", "@c"]).fails(3);
    assert!(line.contains("config.json not found"), "{line}");
    rig.runtime(&["create", "-b", "/missing", "@c"]).fails(3);
    rig.is_clean();
}

#[test]
fn the_hosts_root_is_no_containers() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]).with(|config| config["root"]["path"] = json!("/"));
    fs::create_dir(rig.path().join("images")).unwrap();
    let restore = ["restore", "--image-path", "../images", "@c"];
    for verb in [&["create", "@c"][..], &["run", "@c"], &restore] {
        let code = if verb[0] == "create" { 2 } else { 125 };
        let line = rig.runtime(verb).fails(code);
        assert!(line.contains("the host's root cannot be a container's"), "{verb:?}: {line}");
    }
    rig.is_clean();
}

#[test]
fn contradictions_are_named() {
    if !can_run() {
        return;
    }
    let cases = [
        ("/process/args", json!([]), "process.args is empty"),
        ("/process/cwd", json!("relative"), "not an absolute path"),
        ("/process/rlimits", json!([{ "type": "RLIMIT_X", "soft": 1, "hard": 1 }]), "RLIMIT_X"),
        ("/linux/namespaces", json!([{ "type": "user" }]), "without a mount namespace"),
        ("/linux/namespaces", json!([{ "type": "mount" }, { "type": "mount" }]), "twice"),
        ("/linux/namespaces", json!([{ "type": "moon" }]), "moon"),
        ("/linux/namespaces", json!([{ "type": "mount" }]), "private UTS namespace"),
    ];
    for (pointer, value, text) in cases {
        let rig = Rig::new(&["/bin/true"]).with(|config| *config.pointer_mut(pointer).unwrap() = value);
        let line = rig.runtime(&["create", "@c"]).fails(2);
        assert!(line.contains(text), "{line}");
        rig.is_clean();
    }
}

#[test]
fn a_full_disk_leaves_nothing_half_made() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    fs::create_dir(rig.root()).unwrap();
    // A file system of its own with room for the directory and little else, in a mount namespace of its own.
    let script = format!(
        "mount --make-rprivate / && mount -t tmpfs -o size=4k,nr_inodes=4 tmpfs {root} && \
         {runtime} --root {root} create -b {bundle} {id}; echo $?; ls -A {root}; rm -rf {root}/*; umount {root}",
        root = rig.root().display(),
        runtime = crate::rig::runtime(),
        bundle = rig.bundle().display(),
        id = rig.id("c"),
    );
    let said = run(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    assert_eq!(said.out, "1\n", "{said:?}");
    assert!(said.err.contains("No space left on device"), "{said:?}");
    assert_eq!(rig.cgroups(), Vec::<std::path::PathBuf>::new());
}

/// Kills `create`, `exec` and `delete` at many moments; whatever is left, `delete --force` removes.
#[test]
fn killed_at_any_moment() {
    if !can_run() {
        return;
    }
    for step in 0..24 {
        let rig = Rig::new(&["/bin/sleep", "1000"]);
        let delay = Duration::from_micros(300 * step);
        std::fs::create_dir(rig.root()).unwrap();
        let killed = |args: &[&str]| {
            let mut child = rig.command(args).spawn().unwrap();
            sleep(delay);
            let _ = child.kill();
            let _ = child.wait();
        };
        killed(&["create", "@c"]);
        let list = rig.runtime(&["list", "-q"]).ok();
        assert!(list.lines().count() <= 1);
        // The id can be used again or the container is there; either way it can be deleted.
        rig.runtime(&["delete", "--force", "@c"]).ok();
        rig.is_clean();

        rig.runtime(&["run", "-d", "@d"]).ok();
        killed(&["exec", "@d", "/bin/sleep", "999"]);
        killed(&["delete", "--force", "@d"]);
        rig.runtime(&["delete", "--force", "@d"]).ok();
        rig.is_clean();
    }
}

/// A container whose `create` was killed after it was recorded can be replaced only after a delete, and says so.
#[test]
fn an_interrupted_creation_is_stopped() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]).with(|config| {
        config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sleep", "args": ["sleep", "20"] }]);
    });
    let mut child = rig.command(&["create", "@c"]).spawn().unwrap();
    crate::rig::wait_until("its state", || rig.runtime(&["state", "@c"]).code == 0);
    assert_eq!(rig.status("c"), "creating");
    child.kill().unwrap();
    child.wait().unwrap();
    // Its process, which waits for the hooks, sees that nobody will answer any more.
    rig.wait_for_status("c", "stopped");
    rig.runtime(&["delete", "@c"]).ok();
    rig.is_clean();
}

/// A `run` that was killed when its program ran already, but before it could say that the container is made.
#[test]
fn an_interrupted_run_whose_program_runs() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    let path = rig.root().join(rig.id("c")).join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(state.get("creating"), None, "of no use once it is made");
    state["creating"] = true.into();
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(rig.status("c"), "running");
    // One command does not keep others away.
    let mut long = rig.command(&["exec", "@c", "/bin/sleep", "1000"]).spawn().unwrap();
    rig.runtime(&["exec", "@c", "/bin/true"]).ok();
    rig.runtime(&["kill", "@c", "KILL"]).ok();
    long.wait().unwrap();
    rig.wait_for_status("c", "stopped");
    rig.runtime(&["delete", "@c"]).ok();
    rig.is_clean();
}
