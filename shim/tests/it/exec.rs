use std::io::Write as _;
use std::process::Stdio;

use crate::rig::{Rig, done, wait_until};

#[test]
fn codes_streams_and_environment() {
    let rig = Rig::new();
    rig.sleeper("e1", &["-e", "A=1", "-w", "/tmp"]);
    let done = rig.run(&["exec", "e1", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((done.code, &*done.out, &*done.err), (7, "out\n", "err\n"));
    assert_eq!(rig.ok(&["exec", "e1", "pwd"]), "/tmp");
    assert_eq!(rig.ok(&["exec", "-w", "/etc", "e1", "pwd"]), "/etc");
    let env = rig.ok(&["exec", "-e", "B=2", "e1", "env"]);
    assert!(env.contains("A=1\n") && env.contains("B=2\n") && env.contains("HOME=/root"), "{env}");
    assert!(rig.ok(&["exec", "-u", "5:6", "e1", "id"]).starts_with("uid=5 gid=6"));
    assert_eq!(rig.run(&["exec", "e1", "sh", "-c", "kill -9 $$"]).code, 137);
}

#[test]
fn what_cannot_start() {
    let rig = Rig::new();
    rig.sleeper("e2", &[]);
    rig.fails(127, &["exec", "e2", "nosuch"]);
    rig.fails(126, &["exec", "e2", "/etc/passwd"]);
    rig.fails(125, &["exec", "nosuch", "true"]);
    rig.ok(&["stop", "-t", "0", "e2"]);
    assert!(rig.fails(125, &["exec", "e2", "true"]).contains("is not running"));
}

#[test]
fn stdin_and_detached() {
    let rig = Rig::new();
    rig.sleeper("e3", &[]);
    let mut child =
        rig.shim(&["exec", "-i", "e3", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"piped\n").unwrap();
    assert_eq!(done(child.wait_with_output().unwrap()).out, "piped\n");
    rig.ok(&["exec", "-d", "e3", "touch", "/tmp/x"]);
    assert!(wait_until(|| rig.run(&["exec", "e3", "test", "-e", "/tmp/x"]).code == 0));
}
