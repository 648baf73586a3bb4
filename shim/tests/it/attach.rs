use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::rig::{Rig, done, wait_until};

#[test]
fn several_clients_see_the_same_and_the_code() {
    let rig = Rig::new();
    let script = "while ! test -e /go; do sleep 0.02; done; echo shown; exit 7";
    rig.ok(&["run", "-d", "--name", "at", "--network", "none", "busybox", "sh", "-c", script]);
    let clients: Vec<_> =
        (0..3).map(|_| rig.shim(&["attach", "at"]).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let id = rig.inspect("at", "{{.Id}}");
    assert!(wait_until(|| rig
        .ok(&["events", "--since", "1h", "--until", "0s", "-f", "event=attach"])
        .lines()
        .count()
        == 3));
    rig.ok(&["exec", &id, "touch", "/go"]);
    for client in clients {
        let done = done(client.wait_with_output().unwrap());
        assert_eq!((done.code, &*done.out), (7, "shown\n"));
    }
    assert!(rig.fails(4, &["attach", "at"]).contains("stopped container"));
}

#[test]
fn a_client_that_stops_reading_does_not_hold_the_log() {
    let rig = Rig::new();
    let script = "while ! test -e /go; do sleep 0.02; done; yes 0123456789 | head -c 8000000; echo; echo end";
    rig.ok(&["run", "-d", "--name", "slow", "--network", "none", "busybox", "sh", "-c", script]);
    let mut client = rig.shim(&["attach", "slow"]).stdout(Stdio::piped()).spawn().unwrap();
    assert!(wait_until(|| !rig
        .ok(&["events", "--since", "1h", "--until", "0s", "-f", "event=attach"])
        .is_empty()));
    rig.ok(&["exec", "slow", "touch", "/go"]);
    // Nobody reads the client's stdout; the container ends all the same, with its whole log.
    assert_eq!(rig.ok(&["wait", "slow"]), "0");
    assert_eq!(rig.ok(&["logs", "-n", "1", "slow"]), "end");
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn stdin_through_attach() {
    let rig = Rig::new();
    rig.ok(&["run", "-d", "-i", "--name", "in", "--network", "none", "busybox", "cat"]);
    let mut client =
        rig.shim(&["attach", "in"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"echoed\n").unwrap();
    let mut line = [0; 7];
    client.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"echoed\n");
    drop(stdin);
    assert_eq!(client.wait().unwrap().code(), Some(0));
}

#[test]
fn a_foreground_that_stops_reading_does_not_hold_the_payload_and_gets_everything() {
    let rig = Rig::new();
    // The last one's log keeps a few lines only: what a late reader gets is not read from there.
    for (name, opts) in [("plain", &[][..]), ("tty", &["-t"]), ("turned", &["--log-opt", "max-size=10k"])] {
        let mut args = vec!["run", "--name", name, "--network", "none"];
        args.extend(opts);
        args.extend(["busybox", "sh", "-c", "seq 1 150000; printf \"\\\\377 no text\\n\"; exit 7"]);
        let mut client = rig.shim(&args).stdout(Stdio::piped()).spawn().unwrap();
        // Nobody has read a byte, and the payload is done all the same.
        assert!(
            wait_until(|| rig.run(&["inspect", "-f", "{{.State.Status}}", name]).out == "exited\n"),
            "{name}"
        );
        assert_eq!(rig.ok(&["wait", name]), "7");
        let mut out = Vec::new();
        client.stdout.take().unwrap().read_to_end(&mut out).unwrap();
        out.retain(|&byte| byte != b'\r');
        let mut expected = (1..=150_000).map(|number| format!("{number}\n")).collect::<String>().into_bytes();
        expected.extend(b"\xff no text\n");
        assert!(out == expected, "{name}: {} bytes of {}", out.len(), expected.len());
        assert_eq!(client.wait().unwrap().code(), Some(7), "{name}");
    }
}

#[test]
fn without_a_log_the_payload_waits_for_its_reader_as_in_a_pipeline() {
    let rig = Rig::new();
    let args = ["run", "--rm", "--network", "none", "--log-driver", "none", "busybox", "seq", "1", "300000"];
    let mut client = rig.shim(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 2];
    client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    // Two million bytes are more than pipes, sockets and memory hold.
    assert_eq!(rig.ok(&["ps", "-q"]).lines().count(), 1);
    let done = done(client.wait_with_output().unwrap());
    assert_eq!((done.code, done.out.lines().count()), (0, 299_999));
}
