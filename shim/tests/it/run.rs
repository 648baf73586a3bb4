use std::io::Write as _;
use std::process::Stdio;

use crate::rig::{Rig, done, wait_until};

const RUN: [&str; 4] = ["run", "--rm", "--network", "none"];

fn run<'a>(more: &[&'a str]) -> Vec<&'a str> {
    RUN.iter().chain(more).copied().collect()
}

#[test]
fn output_and_exit_codes_are_the_payloads() {
    let rig = Rig::new();
    let done = rig.run(&run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 42"]));
    assert_eq!((done.code, &*done.out, &*done.err), (42, "out\n", "err\n"));
    assert_eq!(rig.run(&run(&["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])).code, 137);
}

#[test]
fn what_cannot_start_is_125_126_127() {
    let rig = Rig::new();
    assert!(rig.fails(127, &run(&["busybox", "nosuchcmd"])).contains("nosuchcmd"));
    assert!(rig.fails(126, &run(&["busybox", "/etc/passwd"])).contains("/etc/passwd"));
    rig.fails(126, &run(&["busybox", "/etc"]));
    assert!(rig.fails(125, &run(&["--pull", "never", "nosuch", "true"])).contains("nosuch"));
    assert!(rig.fails(125, &run(&["--badflag", "busybox"])).contains("--badflag"));
    rig.fails(125, &run(&[]));
    assert!(rig.fails(125, &run(&["-u", "nosuchuser", "busybox", "id"])).contains("nosuchuser"));
    assert!(rig.fails(125, &run(&["-w", "relative", "busybox", "pwd"])).contains("relative"));
    assert!(rig.fails(125, &run(&["--restart", "always", "busybox"])).contains("--restart and --rm"));
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
}

#[test]
fn rm_leaves_nothing() {
    let rig = Rig::new();
    rig.ok(&run(&["-v", "/anonymous", "--name", "once", "busybox", "true"]));
    // The name is free at once, whatever is still being cleared away.
    rig.ok(&run(&["--name", "once", "busybox", "true"]));
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
    assert_eq!(rig.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn stdin_reaches_only_who_asked() {
    let rig = Rig::new();
    let feed = |flags: &[&str]| {
        let mut args = run(flags);
        args.extend(["busybox", "cat"]);
        let mut child = rig.shim(&args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // More than any pipe or queue holds at once.
        let writer = std::thread::spawn(move || stdin.write_all(&vec![b'x'; 3 << 20]));
        let output = done(child.wait_with_output().unwrap());
        let _ = writer.join();
        output.out.len()
    };
    assert_eq!(feed(&["-i"]), 3 << 20);
    assert_eq!(feed(&[]), 0);
}

#[test]
fn every_byte_of_a_long_output_arrives() {
    let rig = Rig::new();
    let out = rig.run(&run(&["busybox", "sh", "-c", "yes 0123456789 | head -c 5000000"])).out;
    assert_eq!(out.len(), 5_000_000);
}

#[test]
fn environment_user_and_directory() {
    let rig = Rig::new();
    let env = rig.ok(&run(&["-e", "A=b c", "-h", "host1", "busybox", "env"]));
    for line in ["A=b c", "HOSTNAME=host1", "HOME=/root"] {
        assert!(env.lines().any(|found| found == line), "{env}");
    }
    assert!(
        rig.ok(&run(&["-u", "www-data", "busybox", "id"])).starts_with("uid=33(www-data) gid=33(www-data)")
    );
    assert!(rig.ok(&run(&["-u", "1234:5678", "busybox", "id"])).starts_with("uid=1234 gid=5678"));
    assert_eq!(rig.ok(&run(&["-w", "/made/up", "busybox", "pwd"])), "/made/up");
    assert_eq!(rig.ok(&run(&["--entrypoint", "/bin/echo", "busybox", "a", "-n"])), "a -n");
}

#[test]
fn signals_are_passed_on() {
    let rig = Rig::new();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let child = rig
        .shim(&run(&["--name", "sig", "busybox", "sh", "-c", script]))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_until(|| rig.run(&["logs", "sig"]).out == "ready\n"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(done(child.wait_with_output().unwrap()).code, 9);
}

#[test]
fn detached_prints_the_id_and_does_not_hold_our_stdout() {
    let rig = Rig::new();
    // `output()` ends only when every writer of the pipe has gone: the supervisor must not be one.
    let id = rig.sleeper("bg", &[]);
    assert_eq!(id.len(), 64);
    assert_eq!(rig.ok(&["ps", "-q", "--no-trunc"]), id);
}

#[test]
fn cidfile_is_written_once() {
    let rig = Rig::new();
    rig.ok(&run(&["--cidfile", "cid", "busybox", "true"]));
    assert_eq!(std::fs::read_to_string(rig.path().join("cid")).unwrap().len(), 64);
    assert!(rig.fails(125, &run(&["--cidfile", "cid", "busybox", "true"])).contains("cid"));
}

#[test]
fn init_reaps_and_forwards() {
    let rig = Rig::new();
    assert!(rig.ok(&run(&["--init", "busybox", "ps"])).contains("docker-init -- ps"));
    assert_eq!(rig.run(&run(&["--init", "busybox", "sh", "-c", "exit 5"])).code, 5);
    rig.sleeper("init", &["--init"]);
    rig.ok(&["stop", "init"]);
    assert_eq!(rig.inspect("init", "{{.State.ExitCode}}"), "143");
}

#[test]
fn isolation_flags() {
    let rig = Rig::new();
    let caps = |flags: &[&str]| {
        let mut args = run(flags);
        args.extend(["busybox", "grep", "CapEff", "/proc/self/status"]);
        rig.ok(&args).split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(caps(&[]), "00000000a80425fb");
    assert_eq!(caps(&["--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN"]), "00000000a80435fa");
    assert_eq!(caps(&["--cap-drop", "ALL"]), "0000000000000000");
    assert!(rig.fails(125, &run(&["--cap-add", "BOGUS", "busybox"])).contains("CAP_BOGUS"));
    assert_eq!(rig.run(&run(&["--read-only", "busybox", "touch", "/x"])).code, 1);
    let status = rig.ok(&run(&[
        "--security-opt",
        "no-new-privileges",
        "--security-opt",
        "seccomp=unconfined",
        "busybox",
        "grep",
        "-E",
        "Seccomp:|NoNew",
        "/proc/self/status",
    ]));
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t0"), "{status}");
    // This process, which stays: the payload's parent may be gone by then.
    let look = format!("test -d /proc/{} && echo seen", std::process::id());
    assert_eq!(rig.ok(&run(&["--pid", "host", "busybox", "sh", "-c", &look])), "seen");
}

#[test]
fn many_at_once() {
    let rig = Rig::new();
    let start =
        |_| rig.shim(&["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).spawn().unwrap();
    let children: Vec<_> = (0..48).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let ids = rig.ok(&["ps", "-q"]);
    assert_eq!(ids.lines().count(), 48);
    let mut remove = vec!["rm", "-f"];
    remove.extend(ids.lines());
    rig.ok(&remove);
    assert!(rig.left().is_empty(), "{:?}", rig.left());
}

/// Ours, as a service's: a runtime would wait until the container says that it is ready.
#[test]
fn the_service_managers_socket_is_not_the_containers() {
    let rig = Rig::new();
    let args = run(&["busybox", "sh", "-c", "echo .$NOTIFY_SOCKET.; test ! -e /run/notify"]);
    let path = rig.path().join("manager");
    let _manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let out = done(rig.shim(&args).env("NOTIFY_SOCKET", &path).output().unwrap());
    assert_eq!((out.code, out.out.as_str()), (0, "..\n"), "{}", out.err);
}
