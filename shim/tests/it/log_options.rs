//! Each option of the log drivers by what it does to what the receiver gets.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::time::Duration;

use sys::retry::uninterrupted;

use crate::rig::{Rig, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Starts `script` with the driver and its options.
fn start(rig: &Rig, name: &str, driver: &str, options: &[&str], script: &str) -> String {
    let mut args = vec!["run", "-d", "--name", name, "--network", "none", "--log-driver", driver];
    args.extend(options.iter().flat_map(|option| ["--log-opt", option]));
    args.extend(["busybox", "sh", "-c", script]);
    rig.ok(&args)
}

fn server() -> (TcpListener, String) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    server.set_nonblocking(true).unwrap();
    (server, address)
}

/// The next connection, which comes some time or the test fails.
#[track_caller]
fn accept(server: &TcpListener) -> TcpStream {
    let mut found = None;
    assert!(wait_until(|| {
        found = server.accept().ok();
        found.is_some()
    }));
    let (socket, _) = found.unwrap();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What comes until `word` does, or the connection ends.
fn until(socket: &mut TcpStream, word: &str) -> Vec<u8> {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(word) {
        let mut buffer = [0; 65536];
        match uninterrupted(|| socket.read(&mut buffer)).unwrap() {
            0 => break,
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
    all
}

/// The next connection on which `word` comes: one may be given up before it was used.
#[track_caller]
fn hears(server: &TcpListener, word: &str) -> (TcpStream, Vec<u8>) {
    loop {
        let mut socket = accept(server);
        let bytes = until(&mut socket, word);
        if String::from_utf8_lossy(&bytes).contains(word) {
            return (socket, bytes);
        }
    }
}

fn ended(rig: &Rig, id: &str) -> bool {
    !rig.state().join("shim").join(id).exists()
}

#[test]
fn syslog_facility_format_and_every_key_of_a_tag() {
    let rig = Rig::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = format!("syslog-address=udp://{}", socket.local_addr().unwrap());
    let tag =
        "tag={{.ID}}|{{.FullID}}|{{.Name}}|{{.ImageName}}|{{.ImageID}}|{{.ImageFullID}}|{{.DaemonName}}";
    let options = [&*to, "syslog-facility=local3", "syslog-format=rfc3164", tag];
    let id = start(&rig, "sys", "syslog", &options, "echo text");
    let mut buffer = [0; 4096];
    let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let image = rig.inspect("sys", "{{.Image}}");
    let short = &image["sha256:".len()..][..12];
    let tag = format!("{}|{id}|sys|busybox|{short}|{image}|bulkhead[", &id[..12]);
    let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
    // local3 is 19: with "informational" 19 * 8 + 6.
    assert!(text.starts_with("<158>") && text.contains(&format!(" {host} {tag}")), "{text}");
    assert!(text.ends_with("]: text\n"), "{text}");
    assert!(
        rig.fails(125, &["run", "--log-driver", "syslog", "--log-opt", "syslog-facility=odd", "busybox"])
            .contains("odd")
    );
}

#[test]
fn syslog_over_unix_sockets_of_both_kinds() {
    let rig = Rig::new();
    let (datagrams, streams) = (rig.path().join("datagrams"), rig.path().join("streams"));
    let first = UnixDatagram::bind(&datagrams).unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    start(&rig, "d1", "syslog", &[&format!("syslog-address=unixgram://{}", datagrams.display())], "echo one");
    let mut buffer = [0; 4096];
    let length = uninterrupted(|| first.recv(&mut buffer)).unwrap();
    assert!(buffer[..length].ends_with(b": one\n"));
    let second = UnixListener::bind(&streams).unwrap();
    start(&rig, "d2", "syslog", &[&format!("syslog-address=unix://{}", streams.display())], "echo two");
    let (mut socket, _) = second.accept().unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert!(text.ends_with(": two\n"), "{text}");
}

#[test]
fn gelf_is_packed_as_it_is_asked_for() {
    let rig = Rig::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let to = format!("gelf-address=udp://{}", socket.local_addr().unwrap());
    let next = || {
        let mut buffer = [0; 65536];
        let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
        buffer[..length].to_vec()
    };
    let script = "echo $(yes word | head -n 100)";
    let mut sizes = Vec::new();
    for (name, options) in [
        ("none", &["gelf-compression-type=none"][..]),
        ("zlib", &["gelf-compression-type=zlib", "gelf-compression-level=9"]),
        ("stored", &["gelf-compression-type=gzip", "gelf-compression-level=0"]),
    ] {
        start(&rig, name, "gelf", &[&[&*to], options].concat(), script);
        let bytes = next();
        match name {
            "none" => assert!(bytes.starts_with(b"{") && bytes.ends_with(b"}")),
            "zlib" => assert_eq!(bytes[0], 0x78),
            _ => assert_eq!(bytes[..2], [0x1f, 0x8b]),
        }
        sizes.push(bytes.len());
    }
    assert!(sizes[1] < sizes[0] / 2 && sizes[2] > sizes[0], "level 9 packs, level 0 does not: {sizes:?}");
    let more = ["gelf-compression-type=none", "labels=k", "env-regex=^COL"];
    let mut args =
        vec!["run", "--name", "more", "--network", "none", "-l", "k=v", "-e", "COLOUR=red", "-e", "SIZE=1"];
    args.extend(["--log-driver", "gelf", "--log-opt", &to]);
    args.extend(more.iter().flat_map(|option| ["--log-opt", option]));
    args.extend(["busybox", "echo", "x"]);
    rig.ok(&args);
    let message: serde_json::Value = serde_json::from_slice(&next()).unwrap();
    assert_eq!((&message["_k"], &message["_COLOUR"]), (&"v".into(), &"red".into()));
    assert!(message.get("_SIZE").is_none());
}

#[test]
fn a_receiver_that_has_gone_is_given_up_where_that_is_asked_for() {
    let rig = Rig::new();
    // It says that it goes before the payload goes on.
    let script = "echo first; until [ -e /go/on ]; do sleep 0.05; done; for i in 1 2 3 4; do echo lost; sleep 0.1; done";
    for (driver, option, patience) in [
        ("gelf", "gelf-address=tcp://", &["gelf-tcp-max-reconnect=1", "gelf-tcp-reconnect-delay=1"][..]),
        ("fluentd", "fluentd-address=", &["fluentd-max-retries=1", "fluentd-retry-wait=50ms"]),
    ] {
        let (server, address) = server();
        let go = rig.path().join(driver);
        std::fs::create_dir(&go).unwrap();
        let to = format!("{option}{address}");
        let mut args = vec!["run", "-d", "--name", driver, "--network", "none", "--log-driver", driver];
        args.extend([&*to].iter().chain(patience).flat_map(|option| ["--log-opt", option]));
        let mount = format!("{}:/go", go.display());
        args.extend(["-v", &mount, "busybox", "sh", "-c", script]);
        let id = rig.ok(&args);
        let (mut socket, bytes) = hears(&server, "first");
        if driver == "gelf" {
            // Plain, and each message ends in a zero.
            assert!(
                bytes.starts_with(b"{")
                    && (bytes.ends_with(&[0]) || uninterrupted(|| socket.read(&mut [0; 1])).unwrap() == 1)
            );
        }
        drop((socket, server));
        std::fs::write(go.join("on"), "").unwrap();
        // Else the last lines are offered for a minute after the end.
        assert!(wait_until(|| ended(&rig, &id)), "{driver}");
        assert_eq!(rig.ok(&["logs", driver]).lines().count(), 5, "the cache has all");
    }
}

#[test]
fn fluentd_times_limits_and_precision() {
    let rig = Rig::new();
    // Seconds are an integer, or with their fraction one of the protocol's own times.
    for (name, more, kind) in [("whole", "false", 0xce_u8), ("parts", "true", 0xd7)] {
        let (server, address) = server();
        let to = format!("fluentd-address={address}");
        let option = format!("fluentd-sub-second-precision={more}");
        start(&rig, name, "fluentd", &[&to, "tag=t", &option], "echo text");
        let (_, bytes) = hears(&server, "text");
        // An array, the tag, the time.
        assert_eq!((&bytes[1..3], bytes[3] == 0xd7), (&[0xa1, b't'][..], kind == 0xd7), "{bytes:02x?}");
    }
    // One that reads and never acknowledges is asked again; so is one that takes nothing.
    let (slow, address) = server();
    let to = format!("fluentd-address={address}");
    let options = [&*to, "fluentd-request-ack=true", "fluentd-read-timeout=200ms", "fluentd-retry-wait=50ms"];
    start(&rig, "acks", "fluentd", &options, "echo text; exec sleep 1000");
    let _first = hears(&slow, "text");
    hears(&slow, "text");
    rig.ok(&["rm", "-f", "acks"]);
    let (full, address) = server();
    let to = format!("fluentd-address={address}");
    let options = [&*to, "fluentd-write-timeout=200ms", "fluentd-retry-wait=50ms", "cache-max-size=1m"];
    start(
        &rig,
        "writes",
        "fluentd",
        &options,
        "yes $(yes word | head -n 200) | head -n 60000; exec sleep 1000",
    );
    let _first = accept(&full);
    let _second = accept(&full);
    rig.ok(&["rm", "-f", "writes"]);
    // An old connection makes room for a new one, which finds a server that has moved.
    let (aged, address) = server();
    let to = format!("fluentd-address={address}");
    let options = [&*to, "fluentd-async=true", "fluentd-async-reconnect-interval=100ms"];
    start(&rig, "renews", "fluentd", &options, "while :; do echo text; sleep 0.05; done");
    let _first = hears(&aged, "text");
    hears(&aged, "text");
    rig.ok(&["rm", "-f", "renews"]);
}

#[test]
fn what_an_asynchronous_fluentd_does_not_take_is_dropped_above_its_limit() {
    let rig = Rig::new();
    let (server, address) = server();
    drop(server);
    let to = format!("fluentd-address={address}");
    let options = [&*to, "fluentd-async=true", "fluentd-buffer-limit=1k", "fluentd-retry-wait=50ms"];
    start(&rig, "async", "fluentd", &options, "for i in $(seq 100); do echo line; done; exec sleep 1000");
    assert!(wait_until(|| rig.ok(&["logs", "async"]).lines().count() == 100));
    let server = TcpListener::bind(&address).unwrap();
    let (mut socket, _) = server.accept().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = until(&mut socket, "line");
    // All that it had kept has come when the supervisor ends.
    rig.ok(&["stop", "-t", "0", "async"]);
    socket.read_to_end(&mut all).unwrap();
    let came = String::from_utf8_lossy(&all).matches("line").count();
    assert!((1..40).contains(&came), "{came}");
}

#[test]
fn the_cache_of_a_remote_driver_has_limits_of_its_own() {
    let rig = Rig::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = format!("syslog-address=udp://{}", socket.local_addr().unwrap());
    let options = [&*to, "cache-max-size=1k", "cache-max-file=3", "cache-compress=true"];
    let id = start(
        &rig,
        "cached",
        "syslog",
        &options,
        "for i in $(seq 200); do echo line $i; done; exec sleep 1000",
    );
    assert!(wait_until(|| rig.ok(&["logs", "cached"]).ends_with("line 200")));
    let kept = rig.ok(&["logs", "cached"]);
    assert!(kept.ends_with("line 200") && (1..60).contains(&kept.lines().count()), "{kept}");
    let names = || {
        let entries = std::fs::read_dir(rig.store().join("containers").join(&id)).unwrap().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("log.json")).collect();
        names.sort();
        names
    };
    let packed = ["log.json", "log.json.1.gz", "log.json.2.gz"];
    assert!(wait_until(|| names() == packed), "{:?}", names());
}

#[test]
fn passthrough_tty_gives_the_terminal_itself() {
    let rig = Rig::new();
    let shim = env!("CARGO_BIN_EXE_shim");
    let line = format!(
        "{shim} run --network none --log-driver passthrough-tty busybox sh -c 'test -t 0 && test -t 1 && test -t 2 && echo terminal'"
    );
    let typescript = rig.path().join("typescript");
    // script(1) makes the terminal; what it executes has the rig's directories.
    let mut script = Command::new("script");
    script.args(["-qec", &line]).arg(&typescript).stdin(Stdio::null());
    script.env("BULKHEAD_STATE", rig.state()).env("BULKHEAD_STORE", rig.store());
    script.env("BULKHEAD_CONFIG", rig.path().join("config"));
    let output = script.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("terminal"), "{said}");
    std::io::stdout().flush().unwrap();
}
