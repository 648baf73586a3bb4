//! `pause` and `resume`.

use std::fs;
use std::io::Read as _;

use crate::rig::{Background, Rig, can_run, wait_until};

#[test]
fn a_paused_container_stands_still() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("while :; do echo x >> /tmp/steps; sleep 0.01; done");
    let steps = || fs::metadata(rig.rootfs().join("tmp/steps")).map_or(0, |meta| meta.len());
    rig.runtime(&["run", "-d", "@c"]).ok();
    wait_until("the first step", || steps() > 0);
    rig.runtime(&["pause", "@c"]).ok();
    assert_eq!(rig.status("c"), "paused");
    let before = steps();
    rig.runtime(&["pause", "@c"]).fails(4);
    rig.runtime(&["delete", "@c"]).fails(4);
    assert_eq!(steps(), before, "it ran while paused");
    rig.runtime(&["resume", "@c"]).ok();
    assert_eq!(rig.status("c"), "running");
    wait_until("another step", || steps() > before);
    assert!(rig.runtime(&["resume", "@c"]).fails(4).contains("not paused"));
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    for name in ["a", "b"] {
        rig.runtime(&["run", "-d", &format!("@{name}")]).ok();
        rig.runtime(&["pause", &format!("@{name}")]).ok();
    }
    rig.runtime(&["kill", "@a", "KILL"]).ok();
    rig.wait_for_status("a", "stopped");
    rig.runtime(&["delete", "@a"]).ok();
    rig.runtime(&["delete", "--force", "@b"]).ok();
    rig.is_clean();
}

#[test]
fn what_does_not_run_cannot_be_paused() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["pause", "nobody"]).fails(3);
    rig.runtime(&["resume", "nobody"]).fails(3);
    rig.runtime(&["run", "-d", "@c"]).ok();
    rig.wait_for_status("c", "stopped");
    rig.runtime(&["pause", "@c"]).fails(4);
    rig.runtime(&["resume", "@c"]).fails(4);
}

/// Whoever entered it would stand still in it, also the runtime.
#[test]
fn a_frozen_cgroup_is_refused() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let id = rig.id("c");
    let (v1, v2) = (format!("/sys/fs/cgroup/freezer/{id}"), format!("/sys/fs/cgroup/{id}"));
    let (directory, file, word, thawed) = if std::path::Path::new("/sys/fs/cgroup/freezer").exists() {
        (v1, "freezer.state", "FROZEN", "THAWED")
    } else {
        (v2, "cgroup.freeze", "1", "0")
    };
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(format!("{directory}/{file}"), word).unwrap();
    let mut config = rig.config.clone();
    config["linux"]["cgroupsPath"] = format!("/{id}").into();
    std::fs::write(rig.bundle().join("config.json"), config.to_string()).unwrap();
    // A runtime that went in would never come back.
    let mut child =
        Background(rig.command(&["run", "@c"]).stderr(std::process::Stdio::piped()).spawn().unwrap());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let ended = loop {
        match child.0.try_wait().unwrap() {
            None if std::time::Instant::now() < end => {
                std::thread::sleep(std::time::Duration::from_millis(5))
            }
            other => break other.is_some(),
        }
    };
    std::fs::write(format!("{directory}/{file}"), thawed).unwrap();
    assert!(ended, "it stands still");
    let mut line = String::new();
    child.0.stderr.take().unwrap().read_to_string(&mut line).unwrap();
    assert!(line.contains("container's cgroup unexpectedly frozen"), "{line}");
    std::fs::remove_dir(&directory).unwrap();
    rig.is_clean();
}

/// Somebody has moved its process and removed the directories.
#[test]
fn a_container_without_its_cgroup_can_be_managed() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "--pid-file", "pid", "@c"]).ok();
    let pid = std::fs::read_to_string(rig.bundle().join("pid")).unwrap();
    for cgroup in rig.cgroups() {
        let elsewhere = cgroup.with_file_name(rig.id("elsewhere"));
        std::fs::create_dir(&elsewhere).unwrap();
        if elsewhere.join("cpuset.cpus").exists() && !elsewhere.join("cgroup.controllers").exists() {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let value = std::fs::read_to_string(cgroup.join(file)).unwrap();
                std::fs::write(elsewhere.join(file), value).unwrap();
            }
        }
        std::fs::write(elsewhere.join("cgroup.procs"), &pid).unwrap();
        crate::rig::wait_until("the cgroup to be empty", || std::fs::remove_dir(&cgroup).is_ok());
    }
    assert_eq!(rig.status("c"), "running");
    assert_eq!(rig.runtime(&["list", "-q"]).ok(), format!("{}\n", rig.id("c")));
    if !std::path::Path::new("/sys/fs/cgroup/freezer").exists() {
        assert_eq!(rig.runtime(&["exec", "@c", "/bin/echo", "here"]).ok(), "here\n");
    }
    rig.runtime(&["kill", "@c", "KILL"]).ok();
    rig.wait_for_status("c", "stopped");
    rig.runtime(&["delete", "--force", "@c"]).ok();
    for cgroup in rig.cgroups() {
        std::fs::remove_dir(cgroup).unwrap();
    }
    rig.is_clean();
}
