//! Log drivers with real receivers: each test is the other end of the socket.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use sys::retry::uninterrupted;

use crate::rig::{Rig, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `script` to its end with the driver and its options.
fn logged(rig: &Rig, name: &str, driver: &str, options: &[&str], script: &str) {
    let mut args = vec!["run", "--name", name, "--network", "none", "--log-driver", driver];
    args.extend(options.iter().flat_map(|option| ["--log-opt", option]));
    args.extend(["busybox", "sh", "-c", script]);
    rig.ok(&args);
}

fn udp() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = format!("udp://{}", socket.local_addr().unwrap());
    (socket, address)
}

fn datagram(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 64 << 10];
    let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    buffer.truncate(length);
    buffer
}

#[test]
fn syslog_formats_and_the_cache_for_logs() {
    let rig = Rig::new();
    let (socket, address) = udp();
    let to = format!("syslog-address={address}");
    logged(
        &rig,
        "s1",
        "syslog",
        &[&to, "syslog-format=rfc5424micro", "tag={{.Name}}/x"],
        "echo one; echo two >&2",
    );
    let mut messages = [datagram(&socket), datagram(&socket)].map(|bytes| String::from_utf8(bytes).unwrap());
    messages.sort();
    assert!(messages[0].starts_with("<27>1 ") && messages[0].ends_with(" s1/x - two\n"), "{messages:?}");
    assert!(messages[1].starts_with("<30>1 ") && messages[1].ends_with(" s1/x - one\n"), "{messages:?}");
    let done = rig.run(&["logs", "s1"]);
    assert_eq!((&*done.out, &*done.err), ("one\n", "two\n"));
    logged(&rig, "s2", "syslog", &[&to, "cache-disabled=true"], "echo x");
    assert!(rig.fails(7, &["logs", "s2"]).contains("does not support reading"));
    assert!(rig.fails(125, &["run", "--log-driver", "awslogs", "busybox"]).contains("awslogs"));
}

#[test]
fn a_syslog_server_that_goes_and_comes_back_misses_nothing_after_that() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let to = format!("syslog-address=tcp://{address}");
    let script = "echo first; while [ ! -e /tmp/go ]; do sleep 0.05; done; for i in $(seq 500); do echo line $i; done; exec sleep 1000";
    rig.ok(&[
        "run",
        "-d",
        "--name",
        "back",
        "--network",
        "none",
        "--log-driver",
        "syslog",
        "--log-opt",
        &to,
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    let (mut first, _) = server.accept().unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 512];
    let length = uninterrupted(|| first.read(&mut buffer)).unwrap();
    assert!(String::from_utf8_lossy(&buffer[..length]).ends_with(": first\n"));
    drop((first, server));
    rig.ok(&["exec", "back", "touch", "/tmp/go"]);
    assert!(
        wait_until(|| rig.run(&["logs", "back"]).out.ends_with("line 500\n")),
        "the payload goes on meanwhile"
    );
    let server = TcpListener::bind(address).unwrap();
    let (mut again, _) = server.accept().unwrap();
    again.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    while !text.ends_with(": line 500\n") {
        let length = uninterrupted(|| again.read(&mut buffer)).unwrap();
        assert!(length > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    let lines: Vec<&str> = text.lines().filter_map(|line| line.rsplit(": ").next()).collect();
    let expected: Vec<String> = (1..=500).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_receiver_that_stalls_holds_a_payload_only_where_it_should() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("gelf-address=tcp://{}", server.local_addr().unwrap());
    let start = |name: &str, more: &[&str]| {
        let mut args = vec!["run", "-d", "--name", name, "--network", "none", "--log-driver", "gelf"];
        args.extend(["--log-opt", &to, "--log-opt", "cache-disabled=true"]);
        args.extend(more.iter().flat_map(|option| ["--log-opt", option]));
        let script =
            "head -c 20000000 /dev/zero | tr '\\0' x | fold -w 999; echo done >/tmp/done; exec sleep 1000";
        args.extend(["busybox", "sh", "-c", script]);
        rig.ok(&args);
        server.accept().unwrap().0
    };
    let done = |name: &str| rig.run(&["exec", name, "cat", "/tmp/done"]).out == "done\n";
    let _unread = start("nowait", &["mode=non-blocking", "max-buffer-size=64k"]);
    assert!(wait_until(|| done("nowait")));
    let mut late = start("waits", &[]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(!done("waits"), "the payload waits for its log");
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
    // 20 000 000 letters in lines of 999.
    while bytes < 20_020 {
        let length = uninterrupted(|| late.read(&mut buffer)).unwrap();
        assert!(length > 0);
        bytes += buffer[..length].iter().filter(|&&byte| byte == 0).count();
    }
    assert!(wait_until(|| done("waits")));
}

#[test]
fn gelf_over_udp_is_packed() {
    let rig = Rig::new();
    let (socket, address) = udp();
    let to = format!("gelf-address={address}");
    logged(&rig, "g1", "gelf", &[&to, "tag=t", "env=COLOUR"], "echo hello");
    let packed = datagram(&socket);
    let mut gzip = std::process::Command::new("gzip");
    let mut child = gzip
        .arg("-dc")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&packed).unwrap();
    let text = child.wait_with_output().unwrap().stdout;
    let message: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&message["short_message"], &message["version"]), (&"hello".into(), &"1.1".into()));
    assert_eq!((&message["level"], &message["_tag"]), (&6.into(), &"t".into()));
    assert_eq!(message["_container_name"], "g1");
    assert!(message["timestamp"].as_f64().unwrap() > 1e9);
}

/// The strings of a message, in their order.
fn strings(bytes: &[u8]) -> Vec<String> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some(&kind) = bytes.get(at) {
        let (head, length) = match kind {
            0xa0..=0xbf => (1, usize::from(kind & 31)),
            0xd9 => (2, usize::from(bytes[at + 1])),
            0xda => (3, usize::from(bytes[at + 1]) << 8 | usize::from(bytes[at + 2])),
            0xcf => (9, 0),
            0xd7 => (10, 0),
            0xde => (3, 0),
            _ => (1, 0),
        };
        if length > 0 {
            found.push(String::from_utf8_lossy(&bytes[at + head..at + head + length]).into_owned());
        }
        at += head + length;
    }
    found
}

#[test]
fn fluentd_sends_again_what_was_not_acknowledged() {
    let rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("fluentd-address={}", server.local_addr().unwrap());
    let options = [
        "--log-driver",
        "fluentd",
        "--log-opt",
        &to,
        "--log-opt",
        "fluentd-request-ack=true",
        "--log-opt",
        "fluentd-retry-wait=50ms",
        "--log-opt",
        "tag=app",
        "--log-opt",
        "labels-regex=^my\\.",
    ];
    let mut args = vec!["run", "-d", "--name", "f1", "--network", "none", "--label", "my.label=value"];
    args.extend(options);
    args.extend(["busybox", "sh", "-c", "echo one; exec sleep 1000"]);
    rig.ok(&args);
    let message = |socket: &mut std::net::TcpStream| {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 4096];
        let length = uninterrupted(|| socket.read(&mut buffer)).unwrap();
        strings(&buffer[..length])
    };
    let (mut first, _) = server.accept().unwrap();
    let words = message(&mut first);
    assert_eq!(words[0], "app");
    for (key, value) in
        [("source", "stdout"), ("log", "one"), ("my.label", "value"), ("container_name", "/f1")]
    {
        assert!(words.windows(2).any(|pair| pair == [key, value]), "{key}: {words:?}");
    }
    // No answer, and the server goes: the same again.
    drop(first);
    let (mut second, _) = server.accept().unwrap();
    let again = message(&mut second);
    assert_eq!(again, words);
    let chunk = again.last().unwrap();
    let mut answer = vec![0x81, 0xa3];
    answer.extend_from_slice(b"ack");
    answer.extend_from_slice(&[0xd9, u8::try_from(chunk.len()).unwrap()]);
    answer.extend_from_slice(chunk.as_bytes());
    second.write_all(&answer).unwrap();
    rig.ok(&["stop", "-t", "0", "f1"]);
    let mut rest = Vec::new();
    second.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "acknowledged once, sent no more");
}

#[test]
fn a_receiver_that_is_not_there_is_known_before_the_start() {
    let rig = Rig::new();
    for (driver, option) in [
        ("syslog", "syslog-address=tcp://127.0.0.1:1"),
        ("fluentd", "fluentd-address=127.0.0.1:1"),
        ("gelf", "gelf-address=tcp://127.0.0.1:1"),
    ] {
        let err = rig.fails(
            125,
            &[
                "run",
                "--rm",
                "--network",
                "none",
                "--log-driver",
                driver,
                "--log-opt",
                option,
                "busybox",
                "true",
            ],
        );
        assert!(err.contains("failed to initialize logging driver") && err.contains("127.0.0.1:1"), "{err}");
    }
    let later = ["fluentd-address=127.0.0.1:1", "fluentd-async=true"];
    logged(&rig, "later", "fluentd", &later, "echo kept");
    assert_eq!(rig.run(&["logs", "later"]).out, "kept\n");
}

#[test]
fn the_journal_gets_dockers_fields() {
    let rig = Rig::new();
    let dir = std::path::Path::new("/run/systemd/journal");
    if dir.join("socket").exists() {
        eprintln!("skipped: a journal runs here");
        return;
    }
    std::fs::create_dir_all(dir).unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(dir.join("socket")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    logged(&rig, "j1", "journald", &["tag=mine", "env=WHO"], "echo hello");
    let mut buffer = [0; 4096];
    let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    let _ = std::fs::remove_file(dir.join("socket"));
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    for field in [
        "MESSAGE=hello",
        "PRIORITY=6",
        "CONTAINER_NAME=j1",
        "CONTAINER_TAG=mine",
        "SYSLOG_IDENTIFIER=mine",
        "IMAGE_NAME=busybox",
    ] {
        assert!(text.lines().any(|line| line == field), "{field}: {text}");
    }
    assert_eq!(rig.run(&["logs", "j1"]).out, "hello\n");
}

#[test]
fn rotated_files_are_compressed_and_read_back() {
    let rig = Rig::new();
    let script = "for i in $(seq 1500); do echo line $i; done";
    let options = ["max-size=40k", "max-file=50", "compress=true"];
    logged(&rig, "packed", "json-file", &options, script);
    let id = rig.ok(&["ps", "-aq", "--no-trunc"]);
    let dir = rig.store().join("containers").join(&id);
    let names = || {
        let entries = std::fs::read_dir(&dir).unwrap().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("log.json."))
            .collect::<Vec<_>>()
    };
    assert!(
        wait_until(|| !names().is_empty() && names().iter().all(|name| name.ends_with(".gz"))),
        "{:?}",
        names()
    );
    let expected: String = (1..=1500).map(|number| format!("line {number}\n")).collect();
    assert_eq!(rig.run(&["logs", "packed"]).out, expected);
    assert_eq!(rig.run(&["logs", "-n", "900", "packed"]).out.lines().count(), 900);
}

#[test]
fn k8s_file_is_cri() {
    let rig = Rig::new();
    let path = rig.path().join("own.log");
    let option = format!("path={}", path.display());
    logged(&rig, "k8s", "k8s-file", &[&option], "echo hello; echo err >&2");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().any(|line| line.ends_with(" stdout F hello")), "{text}");
    let done = rig.run(&["logs", "k8s"]);
    assert_eq!((&*done.out, &*done.err), ("hello\n", "err\n"));
}
