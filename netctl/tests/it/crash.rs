//! Many at once, and killed at any moment.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use super::rig::Rig;
use serde_json::Value;

#[test]
fn fifty_at_once_get_fifty_addresses() {
    let rig = Rig::new();
    let start = |number: u32| {
        let id = format!("c{number}");
        rig.command(&["up", &id, "-p", "80"]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..50).map(start).collect();
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        addresses.insert(status["networks"]["bridge"]["address"].to_string());
        ports.insert(status["ports"][0]["host_port"].to_string());
    }
    assert_eq!((addresses.len(), ports.len()), (50, 50));
    let start = |number: u32| rig.command(&["down", &format!("c{number}")]).spawn().unwrap();
    for mut child in (0..50).map(start).collect::<Vec<_>>() {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(rig.left(), "");
}

/// Kills `netctl ARGS` later and later, until it is too late, and calls `check` after each.
fn killed(rig: &Rig, args: &[&str], mut check: impl FnMut()) {
    for step in 0..60u64 {
        let mut child = rig.command(args).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(step * 400));
        let _ = child.kill();
        let done = child.wait().unwrap().success();
        check();
        if done && step > 20 {
            return;
        }
    }
}

#[test]
fn a_killed_up_leaves_nothing_behind() {
    let rig = Rig::new();
    killed(&rig, &["up", "c1", "-p", "8080:80"], || {
        rig.ok(&["down", "c1"]);
        assert_eq!(rig.left(), "");
    });
}

#[test]
fn a_killed_down_is_finished_by_the_next() {
    let rig = Rig::new();
    rig.up(&["c1", "-p", "8080:80"]);
    killed(&rig, &["down", "c1"], || {
        rig.ok(&["down", "c1"]);
        assert_eq!(rig.left(), "");
        rig.up(&["c1", "-p", "8080:80"]);
    });
}

#[test]
fn gc_takes_what_belongs_to_nobody() {
    let rig = Rig::new();
    rig.up(&["c1", "-p", "8080:80"]);
    rig.run("umount", &["-l", rig.net("ns/c1").to_str().unwrap()]);
    assert_eq!(rig.ok(&["gc"]), "c1\n");
    rig.up(&["c2"]);
    std::fs::remove_file(rig.net("attachments/c2.json")).unwrap();
    assert_eq!(rig.ok(&["gc"]), "c2\n");
    assert_eq!(rig.ok(&["gc"]), "");
    assert_eq!(rig.left(), "");
}
