//! `kill`.

use crate::rig::{Rig, can_run, wait_until};

#[test]
fn sends_the_signal_by_name_or_number() {
    if !can_run() {
        return;
    }
    let rig =
        Rig::script("trap 'echo got > /tmp/usr1' USR1; echo > /tmp/ready; while :; do sleep 0.01; done");
    rig.runtime(&["run", "-d", "@c"]).ok();
    wait_until("the trap", || rig.rootfs().join("tmp/ready").exists());
    rig.runtime(&["kill", "@c", "SIGUSR1"]).ok();
    wait_until("the signal", || rig.rootfs().join("tmp/usr1").exists());
    rig.runtime(&["kill", "@c", "9"]).ok();
    rig.wait_for_status("c", "stopped");
    let line = rig.runtime(&["kill", "@c"]).fails(4);
    assert!(line.contains("container not running"), "{line}");
}

#[test]
fn refuses_nonsense() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["kill", "nobody"]).fails(3);
    let line = rig.runtime(&["kill", "nobody", "FOO"]).fails(2);
    assert!(line.contains("unknown signal \"FOO\""), "{line}");
}

#[test]
fn a_pattern_stands_for_all_that_match() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    for name in ["web-1", "web-2", "db"] {
        rig.runtime(&["run", "-d", &format!("@{name}")]).ok();
    }
    rig.runtime(&["kill", "--regex", "web-[0-9]$", "KILL"]).ok();
    rig.wait_for_status("web-1", "stopped");
    rig.wait_for_status("web-2", "stopped");
    assert_eq!(rig.status("db"), "running");
    rig.runtime(&["delete", "-r", "web-"]).ok();
    assert_eq!(rig.runtime(&["list", "-q"]).ok(), format!("{}\n", rig.id("db")));
    rig.runtime(&["delete", "--regex", "("]).fails(2);
    rig.runtime(&["delete", "-f", "--regex", "."]).ok();
    rig.is_clean();
}

#[test]
fn signal_0_asks_whether_it_runs() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    rig.runtime(&["kill", "@c", "0"]).ok();
    assert_eq!(rig.status("c"), "running");
    rig.runtime(&["kill", "@c", "KILL"]).ok();
    rig.wait_for_status("c", "stopped");
    rig.runtime(&["kill", "@c", "0"]).fails(4);
    rig.runtime(&["kill", "--all", "@c", "0"]).ok();
}

/// Without a PID namespace the others outlive the first.
#[test]
fn what_the_first_process_left_is_killed() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("sleep 100 & sleep 100 & echo > /tmp/ready; exec sleep 100").with(|config| {
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    });
    let pid_file = rig.path().join("pid");
    rig.runtime(&["run", "-d", "--pid-file", pid_file.to_str().unwrap(), "@c"]).ok();
    wait_until("its processes", || rig.rootfs().join("tmp/ready").exists());
    let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    rig.wait_for_status("c", "stopped");
    let processes = || rig.runtime(&["ps", "-f", "json", "@c"]).ok();
    assert_ne!(processes().trim(), "[]");
    rig.runtime(&["kill", "@c", "KILL"]).ok();
    wait_until("them to end", || matches!(processes().trim(), "[]" | "null"));
    rig.runtime(&["kill", "@c", "KILL"]).fails(4);
    rig.runtime(&["delete", "@c"]).ok();
    rig.is_clean();
}

/// The kernel gives the first process of a PID namespace no signal that it has not asked for.
#[test]
fn a_created_container_can_be_ended() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["create", "@c"]).ok();
    rig.runtime(&["kill", "@c", "WINCH"]).ok();
    assert_eq!(rig.status("c"), "created");
    rig.runtime(&["kill", "@c", "TERM"]).ok();
    rig.wait_for_status("c", "stopped");
    rig.runtime(&["delete", "@c"]).ok();
    rig.is_clean();
}
