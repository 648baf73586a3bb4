use std::process::Stdio;

use crate::rig::{Rig, done, wait_until};

fn counted(rig: &Rig, name: &str, count: u32, more: &[&str]) {
    let script = format!("for i in $(seq 1 {count}); do echo line $i; done; echo err >&2");
    let mut args = vec!["run", "--name", name, "--network", "none"];
    args.extend(more);
    args.extend(["busybox", "sh", "-c", &script]);
    rig.ok(&args);
}

#[test]
fn both_streams_tail_and_times() {
    let rig = Rig::new();
    counted(&rig, "l1", 5, &[]);
    let done = rig.run(&["logs", "l1"]);
    assert_eq!((done.out.lines().count(), &*done.err), (5, "err\n"));
    assert_eq!(rig.run(&["logs", "-n", "2", "l1"]).out, "line 5\n");
    assert_eq!(rig.run(&["logs", "-n", "0", "l1"]).out, "");
    assert!(rig.run(&["logs", "-t", "-n", "2", "l1"]).out.starts_with("20"));
    assert_eq!(rig.ok(&["logs", "--since", "2099-01-01", "l1"]), "");
    assert_eq!(rig.ok(&["logs", "--until", "1h", "l1"]), "");
    rig.fails(3, &["logs", "nosuch"]);
}

#[test]
fn following_ends_with_the_container_and_misses_nothing() {
    let rig = Rig::new();
    let script = "for i in $(seq 1 2000); do echo line $i; done; sleep 0.3; echo last";
    rig.ok(&[
        "run",
        "-d",
        "--name",
        "l2",
        "--network",
        "none",
        "--log-opt",
        "max-size=10k",
        "--log-opt",
        "max-file=50",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let child = rig.shim(&["logs", "-f", "l2"]).stdout(Stdio::piped()).spawn().unwrap();
    let out = done(child.wait_with_output().unwrap()).out;
    assert_eq!(out.lines().count(), 2001);
    assert!(out.ends_with("line 2000\nlast\n"));
}

#[test]
fn rotation_keeps_the_newest() {
    let rig = Rig::new();
    counted(&rig, "l3", 100, &["--log-opt", "max-size=1k", "--log-opt", "max-file=2"]);
    let out = rig.run(&["logs", "l3"]).out;
    assert!(out.lines().count() < 40 && out.ends_with("line 100\n"), "{out}");
}

#[test]
fn drivers() {
    let rig = Rig::new();
    counted(&rig, "l4", 1, &["--log-driver", "none"]);
    assert!(rig.fails(7, &["logs", "l4"]).contains("does not support reading"));
    counted(&rig, "l5", 1, &["--log-driver", "local"]);
    assert_eq!(rig.run(&["logs", "l5"]).out, "line 1\n");
    assert!(rig.fails(125, &["run", "--log-driver", "bogus", "busybox"]).contains("bogus"));
    assert!(rig.fails(125, &["run", "--log-opt", "bogus=1", "busybox"]).contains("unknown log opt 'bogus'"));
}

#[test]
fn a_full_disk_does_not_stop_a_payload_that_does_not_wait_for_its_log() {
    let rig = Rig::new();
    let refused = |opts: &[&str]| {
        let mut args = vec!["create"];
        args.extend(opts.iter().flat_map(|opt| ["--log-opt", opt]));
        args.push("busybox");
        rig.run(&args).err
    };
    assert!(refused(&["max-buffer-size=1m"]).contains("only supported with 'mode=non-blocking'"));
    assert!(refused(&["compress=true"]).contains("compress cannot be true"));
    let store = rig.store();
    let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo done >/tmp/done; exec sleep 1000";
    rig.ok(&[
        "create",
        "--name",
        "nowait",
        "--network",
        "none",
        "--log-opt",
        "mode=non-blocking",
        "--log-opt",
        "max-buffer-size=64k",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let id = rig.ok(&["ps", "-aq", "--no-trunc"]);
    // Where the log is, every write is refused.
    let log = store.join("containers").join(&id).join("log.json");
    let _ = std::fs::remove_file(&log);
    std::os::unix::fs::symlink("/dev/full", &log).unwrap();
    rig.ok(&["start", "nowait"]);
    assert!(wait_until(|| rig.run(&["exec", "nowait", "cat", "/tmp/done"]).out == "done\n"));
}
