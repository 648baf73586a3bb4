//! Attachments, with real traffic.

use super::rig::Rig;

#[test]
fn a_published_port_answers_everywhere_and_goes() {
    let mut rig = Rig::new();
    let status = rig.up(&["c1", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    assert_eq!(status["networks"]["bridge"]["address"], "10.90.0.2/16");
    rig.up(&["c2"]);
    rig.serve("c1", "hello");
    for url in ["127.0.0.1:8080", "127.0.0.1:8081", "10.90.0.1:8080", "10.90.0.2"] {
        assert_eq!(rig.get(url), "hello", "{url}");
    }
    for id in ["c1", "c2"] {
        assert_eq!(rig.inside(id, &["curl", "-sm2", "10.90.0.1:8080"]), "hello", "from {id}");
    }
    assert_eq!(rig.inside("c2", &["curl", "-sm2", "10.90.0.1:8081"]), "", "only on 127.0.0.1");
    let answer = rig.inside("c2", &["busybox", "nslookup", "web", "10.90.0.1"]);
    assert!(answer.contains("Address: 10.90.0.2"), "{answer}");
    let rules = rig.run("nft", &["list", "map", "ip", "bulkhead", "published"]);
    assert!(rules.contains("tcp . 8080 : 10.90.0.2 . 80"), "{rules}");
    rig.ok(&["down", "c1"]);
    assert_eq!(rig.get("127.0.0.1:8080"), "");
    rig.ok(&["down", "c2"]);
    rig.ok(&["down", "c2"]);
    assert_eq!(rig.left(), "");
}

#[test]
fn taken_ports_are_refused_before_anything_changes() {
    let rig = Rig::new();
    rig.up(&["c1", "-p", "8080:80"]);
    let before = rig.run("nft", &["list", "ruleset"]);
    assert!(rig.fails(5, &["up", "c2", "-p", "8080:80"]).contains("already allocated to c1"));
    assert!(rig.fails(5, &["up", "c2", "-p", "127.0.0.1:8080:80"]).contains("already allocated to c1"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(rig.fails(5, &["up", "c2", "-p", &format!("{port}:80")]).contains("a process of the host"));
    assert_eq!(rig.run("nft", &["list", "ruleset"]), before);
    assert!(!rig.net("ns/c2").exists() && !rig.net("attachments/c2.json").exists());
    let status = rig.up(&["c2", "-p", "80"]);
    assert_ne!(status["ports"][0]["host_port"], 0);
}

#[test]
fn the_host_reaches_out_for_its_containers() {
    let rig = Rig::new();
    // A stranger beyond the host, who has no route to the containers.
    rig.run("ip", &["netns", "add", "bulkhead-test-lan"]);
    rig.run(
        "ip",
        &["link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", "bulkhead-test-lan"],
    );
    rig.run("ip", &["addr", "add", "192.168.7.1/24", "dev", "lan"]);
    rig.run("ip", &["link", "set", "lan", "up"]);
    let far = |args: &[&str]| rig.run("ip", &[&["-n", "bulkhead-test-lan"], args].concat());
    far(&["addr", "add", "192.168.7.2/24", "dev", "eth0"]);
    far(&["link", "set", "eth0", "up"]);
    rig.ok(&["create", "--internal", "closed"]);
    rig.up(&["c1"]);
    rig.up(&["c2", "--network", "closed"]);
    let ping = ["busybox", "ping", "-c1", "-W2", "192.168.7.2"];
    let out = rig.inside("c1", &ping);
    let closed = rig.inside("c2", &ping);
    rig.run("ip", &["netns", "del", "bulkhead-test-lan"]);
    assert!(out.contains("1 packets received"), "{out}");
    assert!(!closed.contains("1 packets received"), "{closed}");
}

#[test]
fn networks_are_apart_and_one_can_be_joined_later() {
    let rig = Rig::new();
    rig.ok(&["create", "--subnet", "10.7.0.0/24", "n1"]);
    rig.up(&["c1"]);
    rig.up(&["c2", "--network", "n1"]);
    let ping = ["busybox", "ping", "-c1", "-W1", "10.7.0.2"];
    assert!(!rig.inside("c1", &ping).contains("1 packets received"));
    rig.ok(&["connect", "n1", "c1", "--alias", "other"]);
    assert!(rig.inside("c1", &ping).contains("1 packets received"));
    rig.fails(4, &["connect", "n1", "c1"]);
    rig.ok(&["disconnect", "bridge", "c1"]);
    assert!(rig.inside("c1", &["ip", "route"]).starts_with("default via 10.7.0.1"));
    rig.ok(&["disconnect", "n1", "c1"]);
    rig.fails(3, &["disconnect", "n1", "c1"]);
    rig.ok(&["down", "c1"]);
    rig.ok(&["down", "c2"]);
    assert_eq!(rig.left(), "");
}

#[test]
fn addresses_asked_for_are_had_or_refused() {
    let rig = Rig::new();
    rig.ok(&["create", "--subnet", "10.7.0.0/29", "n1"]);
    let status = rig.up(&["c1", "--network", "n1", "--ip", "10.7.0.5", "--mac-address", "02:00:00:00:00:05"]);
    assert_eq!(status["networks"]["n1"]["address"], "10.7.0.5/29");
    assert!(rig.inside("c1", &["ip", "link"]).contains("02:00:00:00:00:05"));
    assert!(rig.fails(5, &["up", "c2", "--network", "n1", "--ip", "10.7.0.5"]).contains("in use by c1"));
    rig.fails(2, &["up", "c2", "--network", "n1", "--ip", "10.8.0.5"]);
    for id in ["a", "b", "c", "d"] {
        rig.up(&[id, "--network", "n1"]);
    }
    assert!(rig.fails(5, &["up", "e", "--network", "n1"]).contains("no address left"));
    rig.fails(3, &["up", "e", "--network", "nosuch"]);
}

#[test]
fn modes_without_a_network() {
    let rig = Rig::new();
    assert!(rig.up(&["h", "--network", "host"])["netns"].is_null());
    rig.up(&["n", "--network", "none"]);
    assert_eq!(rig.inside("n", &["ip", "-br", "link"]).lines().count(), 1);
    let first = rig.up(&["c1"]);
    let second = rig.up(&["c2", "--network", "container:c1"]);
    assert_eq!(first["netns"], second["netns"]);
    rig.fails(3, &["up", "c3", "--network", "container:nosuch"]);
    rig.fails(4, &["up", "c1"]);
    rig.ok(&["down", "c2"]);
    assert!(rig.net("ns/c1").exists() && rig.net("files/c1/hosts").exists());
    for id in ["h", "n", "c1"] {
        rig.ok(&["down", id]);
    }
    assert_eq!(rig.left(), "");
}

#[test]
fn ipv6_beside_ipv4() {
    let mut rig = Rig::new();
    rig.ok(&["create", "--subnet", "10.7.0.0/24", "--subnet", "fd07::/64", "dual"]);
    let status = rig.up(&["c1", "--network", "dual", "-p", "8080:80"]);
    assert_eq!(status["networks"]["dual"]["address6"], "fd07::2/64");
    rig.up(&["c2", "--network", "dual"]);
    rig.serve("c1", "six");
    assert_eq!(rig.inside("c2", &["curl", "-sm2", "http://[fd07::2]:80/"]), "six");
    assert_eq!(rig.get("http://[fd07::1]:8080/"), "six");
    assert!(rig.inside("c2", &["ip", "-6", "route"]).contains("default via fd07::1"));
    rig.ok(&["down", "c1"]);
    rig.ok(&["down", "c2"]);
    assert_eq!(rig.left(), "");
}

#[test]
fn flushed_rules_come_back() {
    let mut rig = Rig::new();
    rig.up(&["c1", "-p", "8080:80"]);
    rig.serve("c1", "back");
    rig.run("nft", &["flush", "ruleset"]);
    rig.ok(&["reload"]);
    assert_eq!(rig.get("127.0.0.1:8080"), "back");
    rig.run("nft", &["flush", "ruleset"]);
    rig.up(&["c2", "-p", "8081:80"]);
    assert_eq!(rig.get("127.0.0.1:8080"), "back", "the next port brings all of them back");
    rig.run("nft", &["flush", "ruleset"]);
    rig.ok(&["down", "c1"]);
    rig.ok(&["down", "c2"]);
    assert_eq!(rig.left(), "");
}

#[test]
fn bad_requests_are_one_line() {
    use std::io::Write as _;
    use std::process::Stdio;
    let rig = Rig::new();
    for (id, text) in [("c1", "{"), ("c1", "[1]"), ("c1", "{\"name\":\"a b\"}"), ("../c1", "{}")] {
        let mut command = rig.command(&["up", id]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(
            (output.status.code(), output.stderr.iter().filter(|byte| **byte == b'\n').count()),
            (Some(2), 1)
        );
    }
    rig.fails(2, &["down", "../x"]);
}
