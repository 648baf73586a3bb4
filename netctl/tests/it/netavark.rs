//! netctl in netavark's place, called as podman calls it.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::rig::Rig;

/// What it said, and whether it succeeded.
pub fn call(rig: &Rig, args: &[&str], input: &Value) -> (bool, Value) {
    call_with(rig, ("", ""), args, input)
}

/// As [`call`], with a variable of the environment.
fn call_with(rig: &Rig, (name, value): (&str, &str), args: &[&str], input: &Value) -> (bool, Value) {
    let config = rig.net("podman");
    let mut child = rig
        .command(&["netavark", "--rootless=false", "--config"])
        .arg(config)
        .args(args)
        .env(if name.is_empty() { "UNUSED" } else { name }, value)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse its arguments before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.to_string().as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default())
}

fn input(id: &str, ip: &str, ports: Value) -> Value {
    json!({
        "container_id": id, "container_name": id, "port_mappings": ports,
        "networks": {"n1": {"interface_name": "eth0", "static_ips": [ip], "aliases": ["other"]}},
        "network_info": {"n1": {
            "name": "n1", "id": "00", "driver": "bridge", "network_interface": "podman7", "internal": false,
            "dns_enabled": true, "ipv6_enabled": false, "unknown_key": 1,
            "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
        }},
    })
}

#[test]
fn two_containers_of_podman() {
    let mut rig = Rig::new();
    for id in ["a", "b"] {
        rig.up(&[id, "--network", "none"]);
    }
    let netns = |id: &str| rig.net("ns").join(id).to_str().unwrap().to_owned();
    let (a, b) = (netns("a"), netns("b"));
    let port =
        json!([{"host_ip": "", "host_port": 8080, "container_port": 80, "range": 1, "protocol": "tcp"}]);
    let first = input("a", "10.88.0.2", port.clone());
    let (done, status) = call(&rig, &["setup", &a], &first);
    assert!(done, "{status}");
    let interface = &status["n1"]["interfaces"]["eth0"];
    assert_eq!(interface["subnets"][0], json!({"gateway": "10.88.0.1", "ipnet": "10.88.0.2/16"}));
    assert_eq!(status["n1"]["dns_server_ips"][0], "10.88.0.1");
    let second = input("b", "10.88.0.3", json!(null));
    assert!(call(&rig, &["setup", &b], &second).0);
    rig.serve("a", "podman");
    assert_eq!(rig.get("127.0.0.1:8080"), "podman");
    assert_eq!(rig.inside("b", &["curl", "-sm2", "10.88.0.1:8080"]), "podman");
    let answer = rig.inside("b", &["busybox", "nslookup", "a.dns.podman", "10.88.0.1"]);
    assert!(answer.contains("Address: 10.88.0.2"), "{answer}");

    let (done, error) = call(&rig, &["setup", &b], &second);
    assert!(!done && error["error"].as_str().unwrap().contains("eth0 already exists"), "{error}");
    assert_eq!(rig.inside("b", &["curl", "-sm2", "10.88.0.2"]), "podman", "the refusal undid nothing");
    rig.run("nft", &["flush", "ruleset"]);
    assert!(call(&rig, &["firewall-reload"], &json!(null)).0);
    assert_eq!(rig.get("127.0.0.1:8080"), "podman");

    for _ in 0..2 {
        assert_eq!(call(&rig, &["teardown", &a], &first), (true, Value::Null));
    }
    assert_eq!(call(&rig, &["teardown", &b], &second), (true, Value::Null));
    assert_eq!(rig.run("nft", &["list", "ruleset"]), "");
    assert!(!rig.run("ip", &["-br", "link"]).contains("podman7"));
}

#[test]
fn refusals_are_one_key_on_stdout() {
    let rig = Rig::new();
    rig.up(&["a", "--network", "none"]);
    let a = rig.net("ns").join("a").to_str().unwrap().to_owned();
    let refused = |args: &[&str], input: &Value, why: &str| {
        let (done, said) = call(&rig, args, input);
        let error = said["error"].as_str().unwrap_or_default();
        assert!(!done && error.contains(why) && said.as_object().unwrap().len() == 1, "{why}: {said}");
    };
    let good = input("a", "10.88.0.2", json!(null));
    let mut odd = good.clone();
    odd["dns_servers"] = json!(["10.88.0.1"]);
    refused(&["setup", &a], &odd, "would cause aardvark-dns to forward queries to itself");
    let mut odd = good.clone();
    odd["network_info"]["n1"]["routes"] = json!([{"destination": "10.9.0.0/24", "route_type": "odd"}]);
    refused(&["setup", &a], &odd, "unknown type");
    let mut odd = good.clone();
    odd["network_info"]["n1"]["options"] = json!({"vlan": "4095"});
    refused(&["setup", &a], &odd, "vlan must be between 0 and 4094");
    refused(&["setup", "/nosuch"], &good, "invalid namespace path: IO error: No such file");
    refused(&["setup", &a], &json!([]), "failed to load network options");
    refused(&["setup", &a], &input("a", "10.99.0.2", json!(null)), "no subnet contains");
    let port = json!([{"host_port": 1, "container_port": 1, "protocol": "icmp"}]);
    refused(&["setup", &a], &input("a", "10.88.0.2", port), "unknown port protocol");
    let mut odd = good.clone();
    odd["network_info"]["n1"]["driver"] = json!("nosuch");
    refused(&["setup", &a], &odd, "unknown network driver");
    assert_eq!(rig.run("nft", &["list", "ruleset"]), "");
    assert_eq!(rig.inside("a", &["ip", "-br", "link"]).lines().count(), 1);
}

#[test]
fn what_netavark_2_added() {
    let rig = Rig::new();
    rig.run("ip", &["link", "add", "out0", "type", "veth", "peer", "name", "far0"]);
    rig.run("ip", &["addr", "add", "192.168.9.1/24", "dev", "out0"]);
    rig.run("ip", &["addr", "add", "192.168.9.3/32", "dev", "out0"]);
    rig.up(&["a", "--network", "none"]);
    let netns = rig.net("ns").join("a").to_str().unwrap().to_owned();
    let mut input = input("a", "10.88.0.2", json!(null));
    input["networks"] = json!([{"name": "n1", "interface_name": "eth0", "static_ips": ["10.88.0.2"]}]);
    let info = &mut input["network_info"]["n1"];
    info["options"] = json!({"outbound_addr4": "192.168.9.3"});
    info["routes"] = json!([
        {"destination": "10.97.0.0/24", "route_type": "blackhole"},
        {"destination": "10.98.0.0/24", "route_type": "unreachable"},
        {"destination": "10.99.0.0/24", "gateway": "10.88.0.1"},
    ]);
    let (done, status) = call(&rig, &["setup", &netns], &input);
    assert!(done, "{status}");
    let routes = rig.inside("a", &["ip", "route"]);
    for route in ["blackhole 10.97.0.0/24", "unreachable 10.98.0.0/24", "10.99.0.0/24 via 10.88.0.1"] {
        assert!(routes.contains(route), "{routes}");
    }
    let rules = rig.run("nft", &["list", "ruleset"]);
    assert!(rules.contains("snat to 192.168.9.3"), "{rules}");
    // The container's namespace is gone before its networks are taken down.
    let gone = format!("{netns}-gone");
    rig.ok(&["down", "--wait", "a"]);
    assert_eq!(call(&rig, &["teardown", &gone], &input), (true, Value::Null));
    assert_eq!(rig.run("nft", &["list", "ruleset"]), "");
    assert!(!rig.run("ip", &["-br", "link"]).contains("podman7"));

    let asked = json!({
        "network": {"name": "n", "id": "a".repeat(64), "driver": "bridge", "dns_enabled": true, "internal": false,
            "ipv6_enabled": false},
        "used": {"interfaces": [], "names": {}, "subnets": ["10.89.0.0/24"]},
        "options": {"subnet_pools": [{"base": "10.89.0.0/16", "size": 24}], "default_interface_name": "podman",
            "check_used_subnets": true},
    });
    rig.run("ip", &["link", "add", "podman1", "type", "bridge"]);
    let (done, network) = call(&rig, &["create"], &asked);
    assert!(done, "{network}");
    assert_eq!(network["network_interface"], "podman2", "podman1 is there");
    assert_eq!(network["subnets"][0]["gateway"], "10.89.1.1");
}

#[test]
fn names_on_another_port_are_asked_for_on_the_usual_one() {
    let rig = Rig::new();
    rig.up(&["a", "--network", "none"]);
    let netns = rig.net("ns").join("a").to_str().unwrap().to_owned();
    let port = ("NETAVARK_DNS_PORT", "5353");
    let input = input("a", "10.88.0.2", json!(null));
    let (done, status) = call_with(&rig, port, &["setup", &netns], &input);
    assert!(done, "{status}");
    // Somebody else has the usual one.
    let _taken = std::net::UdpSocket::bind("10.88.0.1:53").unwrap();
    for name in ["a.dns.podman", "other"] {
        let answer = rig.inside("a", &["busybox", "nslookup", name, "10.88.0.1"]);
        assert!(answer.contains("10.88.0.2"), "{answer}");
    }
    let file = std::fs::read_to_string(rig.net("podman/aardvark-dns/n1")).unwrap();
    assert_eq!(file, "10.88.0.1\na 10.88.0.2  a,other\n");
    assert!(call_with(&rig, port, &["update", "n1", "--network-dns-servers", "9.9.9.9"], &json!(null)).0);
    let file = std::fs::read_to_string(rig.net("podman/aardvark-dns/n1")).unwrap();
    assert!(file.starts_with("10.88.0.1 9.9.9.9\n"), "{file}");
    assert!(call_with(&rig, port, &["teardown", &netns], &input).0);
    assert!(!rig.net("podman/aardvark-dns/n1").exists());
    rig.ok(&["down", "--wait", "a"]);
    assert_eq!(rig.run("nft", &["list", "ruleset"]), "");
}

#[test]
fn the_rules_are_where_the_driver_says_and_move_with_it() {
    let mut rig = Rig::new();
    if !rig.output("iptables-save", &[]).status.success() {
        eprintln!("skipped: iptables does not work here");
        return;
    }
    for id in ["a", "b"] {
        rig.up(&[id, "--network", "none"]);
    }
    let netns = |id: &str| rig.net("ns").join(id).to_str().unwrap().to_owned();
    let (a, b) = (netns("a"), netns("b"));
    let port =
        json!([{"host_ip": "", "host_port": 8080, "container_port": 80, "range": 1, "protocol": "tcp"}]);
    let (first, second) = (input("a", "10.88.0.2", port), input("b", "10.88.0.3", json!(null)));
    let by = |driver| ("NETAVARK_FW", driver);
    let (done, said) = call_with(&rig, by("iptables"), &["setup", &a], &first);
    assert!(done, "{said}");
    rig.serve("a", "podman");
    let is_in_iptables = || rig.run("iptables-save", &[]).contains("BULKHEAD_PODMAN-PUBLISH");
    let is_in_nftables = || rig.run("nft", &["list", "tables"]).contains("bulkhead_podman");
    assert!(is_in_iptables() && !is_in_nftables());
    assert_eq!(rig.get("127.0.0.1:8080"), "podman");
    let (done, said) = call_with(&rig, by("nftables"), &["setup", &b], &second);
    assert!(done, "{said}");
    assert!(!is_in_iptables() && is_in_nftables());
    assert_eq!(rig.get("127.0.0.1:8080"), "podman");
    let (done, said) = call_with(&rig, by("iptables"), &["firewall-reload"], &json!(null));
    assert!(done, "{said}");
    assert!(is_in_iptables() && !is_in_nftables());
    assert_eq!(rig.get("127.0.0.1:8080"), "podman");
    let (done, said) = call_with(&rig, by("firewalld"), &["setup", &b], &second);
    assert!(!done && said["error"].as_str().unwrap().contains("\"firewalld\" is not supported"), "{said}");
    for (netns, input) in [(&a, &first), (&b, &second)] {
        assert!(call_with(&rig, by("iptables"), &["teardown", netns], input).0);
    }
    assert!(!is_in_iptables() && !is_in_nftables());
    for id in ["a", "b"] {
        rig.ok(&["down", "--wait", id]);
    }
}

#[test]
fn a_name_server_that_does_not_start_leaves_nothing() {
    let rig = Rig::new();
    rig.up(&["a", "--network", "none"]);
    let netns = rig.net("ns").join("a").to_str().unwrap().to_owned();
    let input = input("a", "10.88.0.2", json!(null));
    for (program, why) in [("/nosuch", "Failed to find executable"), ("/bin/false", "exited unexpectedly")] {
        let (done, error) = call(&rig, &["--aardvark-binary", program, "setup", &netns], &input);
        assert!(!done && error["error"].as_str().unwrap().contains(why), "{error}");
        assert!(!rig.net("podman/aardvark-dns/n1").exists());
        assert_eq!(rig.run("nft", &["list", "ruleset"]), "");
        assert!(!rig.run("ip", &["-br", "link"]).contains("podman7"));
    }
    rig.ok(&["down", "--wait", "a"]);
}
