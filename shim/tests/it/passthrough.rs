use std::io::Write as _;
use std::process::Stdio;

use crate::rig::{Rig, done, wait_until};

const DRIVER: [&str; 4] = ["--network", "none", "--log-driver", "passthrough"];

fn with<'a>(verb: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [verb, &DRIVER, more].concat()
}

#[test]
fn the_payload_has_our_streams() {
    let rig = Rig::new();
    let script = "cat; echo err >&2; exit 7";
    let mut command = rig.shim(&with(&["run", "--name", "c1"], &["busybox", "sh", "-c", script]));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"through\n").unwrap();
    let ran = done(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (7, "through\n", "err\n"));
    assert!(rig.fails(7, &["logs", "c1"]).contains("does not support reading"));
    // Started again: then it has those of this command.
    let again = rig.run(&["start", "-a", "c1"]);
    assert_eq!((again.code, again.out.as_str(), again.err.as_str()), (7, "", "err\n"));
}

#[test]
fn a_restarted_payload_has_them_too_and_then_they_end() {
    let rig = Rig::new();
    let script = "echo run; test -e /again && exec sleep 1000; touch /again; exit 1";
    let out = rig.path().join("out");
    let file = std::fs::File::create(&out).unwrap();
    let args =
        with(&["run", "-d", "--restart", "on-failure", "--name", "c1"], &["busybox", "sh", "-c", script]);
    assert!(rig.shim(&args).stdout(file).status().unwrap().success());
    let text = || std::fs::read_to_string(&out).unwrap();
    assert!(wait_until(|| text().matches("run").count() == 2), "{}", text());
    // It may have written before its record says that it runs.
    assert!(wait_until(|| rig.fails(4, &["attach", "c1"]).contains("nothing to attach to")));
    // Its own end is the end of the stream: the reader of this pipe would wait otherwise.
    let args = with(&["run", "--rm"], &["busybox", "echo", "once"]);
    assert_eq!(rig.ok(&args), "once");
}

#[test]
fn what_does_not_fit_is_refused() {
    let rig = Rig::new();
    for (flag, word) in [("-t", "--tty"), ("-astdout", "--attach"), ("--log-opt=tag=x", "tag")] {
        let err = rig.fails(125, &with(&["run", flag], &["busybox", "true"]));
        assert!(err.contains(word) && err.contains("passthrough"), "{err}");
    }
}
