//! With the real netctl, in the network namespace of the test binary.

use std::io::Read as _;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use crate::rig::{Rig, tool, wait_until};

const HELLO: &str = "while :; do echo hello | nc -l -p 80; done";

/// What a server on this machine says.
fn ask(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn host_port(rig: &Rig, name: &str) -> u16 {
    rig.ok(&["port", name, "80"]).rsplit_once(':').unwrap().1.parse().unwrap()
}

#[test]
fn published_ports() {
    let rig = Rig::new();
    let server = |name: &str, flags: &[&str]| {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(flags);
        args.extend(["busybox", "sh", "-c", HELLO]);
        rig.run(&args)
    };
    assert_eq!(server("web", &["-p", "127.0.0.1::80"]).code, 0);
    let port = host_port(&rig, "web");
    assert!(wait_until(|| ask(port).as_deref() == Some("hello\n")));
    let ps = rig.ok(&["ps", "--format", "{{.Ports}}"]);
    assert_eq!(ps, format!("127.0.0.1:{port}->80/tcp"));
    let taken = server("other", &["-p", &format!("127.0.0.1:{port}:80")]);
    assert!(taken.code == 125 && taken.err.contains(&port.to_string()), "{}", taken.err);
    // Free at once for the next.
    rig.ok(&["rm", "-f", "web"]);
    assert_eq!(server("next", &["-p", &format!("127.0.0.1:{port}:80")]).code, 0);
    assert_eq!(server("all", &["-P", "--expose", "80"]).code, 0);
    let port = host_port(&rig, "all");
    assert!(wait_until(|| ask(port).as_deref() == Some("hello\n")));
}

#[test]
fn names_and_a_second_network() {
    let rig = Rig::new();
    rig.netctl(&["create", "back"]);
    rig.netctl(&["create", "front"]);
    let args =
        ["run", "-d", "--name", "db1", "--network", "name=back,alias=data", "busybox", "sh", "-c", HELLO];
    rig.ok(&args);
    let asked = |flags: &[&str], name: &str| {
        let mut args = vec!["run", "--rm"];
        args.extend(flags);
        args.extend(["busybox", "nc", "-w", "5", name, "80"]);
        rig.run(&args).out
    };
    assert!(wait_until(|| asked(&["--network", "back"], "db1") == "hello\n"));
    assert_eq!(asked(&["--network", "back"], "data"), "hello\n");
    assert_eq!(asked(&["--network", "front"], "db1"), "");
    assert_eq!(asked(&["--network", "front", "--network", "back"], "db1"), "hello\n");
    let links = rig.ok(&[
        "run",
        "--rm",
        "--network",
        "front",
        "--network",
        "back",
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net",
    ]);
    assert_eq!(links.split_whitespace().collect::<Vec<_>>(), ["eth0", "eth1", "lo"]);
}

#[test]
fn another_containers_network() {
    let rig = Rig::new();
    rig.ok(&["run", "-d", "--name", "host1", "busybox", "sh", "-c", HELLO]);
    let args = ["run", "--rm", "--network", "container:host1", "busybox", "sh", "-c"];
    let inside = |script| rig.ok(&[&args[..], &[script]].concat());
    assert!(wait_until(|| inside("nc -w 5 127.0.0.1 80 || true") == "hello"));
    let address = rig.ok(&["exec", "host1", "sh", "-c", "ip -4 -o addr show eth0"]);
    assert_eq!(inside("ip -4 -o addr show eth0"), address);
    assert_eq!(inside("cat /etc/hostname"), rig.ok(&["exec", "host1", "cat", "/etc/hostname"]));
    let hosts = rig.ok(&["exec", "host1", "cat", "/etc/hosts"]);
    assert_eq!(inside("cat /etc/hosts"), hosts);
    assert_eq!(inside("hostname"), rig.ok(&["exec", "host1", "hostname"]));
    rig.fails(125, &["run", "--rm", "--network", "container:host1", "-h", "own", "busybox", "true"]);
    rig.fails(125, &["run", "--rm", "--network", "container:host1", "-p", "80:80", "busybox", "true"]);
    rig.fails(125, &["run", "--rm", "--network", "container:nosuch", "busybox", "true"]);
    rig.fails(125, &["run", "--rm", "--network", "nosuch", "busybox", "true"]);
}

#[test]
fn the_hosts_network() {
    let rig = Rig::new();
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let seen =
        rig.ok(&["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/thread-self/ns/net"]);
    assert_eq!(seen, own.display().to_string());
}

#[test]
fn a_slow_network_is_taken_down_when_the_image_fails() {
    let rig = Rig::new();
    let slow = rig.path().join("netctl");
    let ended = rig.path().join("up-has-ended");
    let script = format!(
        "#!/bin/sh\n[ $1 = up ] || exec {0} \"$@\"\nsleep 0.5\n{0} \"$@\"\ncode=$?\n>{1}\nexit $code\n",
        tool("netctl").display(),
        ended.display()
    );
    std::fs::write(&slow, script).unwrap();
    std::fs::set_permissions(&slow, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = rig.shim(&["run", "--rm", "-u", "nobody-knows", "busybox", "true"]);
    let done = run.env("BULKHEAD_NETCTL", &slow).output().unwrap();
    assert_eq!(done.status.code(), Some(125), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(ended.exists(), "run returned while netctl up was at work");
    for left in ["attachments", "ns"] {
        let dir = rig.state().join("net").join(left);
        let names = || std::fs::read_dir(&dir).into_iter().flatten().flatten().collect::<Vec<_>>();
        // The record goes last, in a child of `netctl down`.
        assert!(wait_until(|| names().is_empty()), "{}: {:?}", dir.display(), names());
    }
}
