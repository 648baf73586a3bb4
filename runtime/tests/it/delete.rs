//! `delete`.

use crate::rig::{Background, Rig, can_run, wait_until};

#[test]
fn refuses_what_runs_unless_forced() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    let line = rig.runtime(&["delete", "@c"]).fails(4);
    assert!(line.contains("that is not stopped: running"), "{line}");
    assert_eq!(rig.status("c"), "running");
    rig.runtime(&["delete", "-f", "@c"]).ok();
    rig.is_clean();
}

#[test]
fn removes_what_was_never_started() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["create", "@c"]).ok();
    rig.runtime(&["delete", "@c"]).ok();
    rig.is_clean();
}

#[test]
fn unknown_ids() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["delete", "nobody"]).fails(3);
    rig.runtime(&["delete", "../bundle"]).fails(3);
    rig.runtime(&["delete", "--force", "nobody"]).ok();
    assert!(rig.bundle().exists());
}

#[test]
fn removes_half_made_directories() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    // As a `create` killed right after its mkdir leaves it.
    std::fs::create_dir_all(rig.root().join("empty")).unwrap();
    assert_eq!(rig.runtime(&["list", "-q"]).ok(), "");
    rig.runtime(&["state", "empty"]).fails(3);
    rig.runtime(&["delete", "empty"]).ok();
    // And the id is free for a new one.
    std::fs::create_dir_all(rig.root().join(rig.id("c"))).unwrap();
    rig.runtime(&["create", "@c"]).ok();
    // A broken state file.
    std::fs::create_dir_all(rig.root().join("broken")).unwrap();
    std::fs::write(rig.root().join("broken/state.json"), "{").unwrap();
    let line = rig.runtime(&["delete", "broken"]).fails(1);
    assert!(line.contains("broken/state.json"), "{line}");
    rig.runtime(&["delete", "-f", "broken"]).ok();
    assert!(!rig.root().join("broken").exists());
}

#[test]
fn processes_without_a_pid_namespace_end_too() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("sleep 98765 & echo $! > /tmp/pid; exit 3").with(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "pid");
    });
    assert_eq!(rig.runtime(&["run", "@c"]).code, 3);
    rig.is_clean();
}

/// The first process of a PID namespace ends when all in it have been reaped, also what came in from outside.
#[test]
fn a_process_that_nobody_reaps_holds_nothing_up() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    let pid_file = rig.path().join("pid");
    let args = ["exec", "--pid-file", pid_file.to_str().unwrap(), "@c", "/bin/sleep", "1000"];
    let parent = Background(rig.command(&args).spawn().unwrap());
    wait_until("the other process", || pid_file.exists());
    // From now on it reaps nobody.
    let pid = nix::unistd::Pid::from_raw(parent.0.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let begin = std::time::Instant::now();
    rig.runtime(&["delete", "--force", "@c"]).ok();
    assert!(begin.elapsed().as_secs() < 5);
    rig.is_clean();
}
