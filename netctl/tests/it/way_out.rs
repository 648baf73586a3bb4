//! Which network the default route and the published ports go by.

use serde_json::{Value, json};
use std::io::Write as _;
use std::process::Stdio;

use super::rig::Rig;

fn asked(rig: &Rig, id: &str, request: &Value) -> Value {
    let mut child = rig.command(&["up", id]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_network_with_the_highest_priority_leads_out() {
    let mut rig = Rig::new();
    for (name, subnet, subnet6) in [
        ("n1", "10.7.1.0/24", "fd07:1::/64"),
        ("n2", "10.7.2.0/24", "fd07:2::/64"),
        ("n3", "10.7.3.0/24", "fd07:3::/64"),
    ] {
        rig.ok(&["create", "--subnet", subnet, "--subnet", subnet6, name]);
    }
    let ways = |rig: &Rig, id: &str| {
        let routes = rig.inside(id, &["ip", "route", "show", "default"]);
        let routes6 = rig.inside(id, &["ip", "-6", "route", "show", "default"]);
        assert_eq!((routes.lines().count(), routes6.lines().count()), (1, 1), "{routes}{routes6}");
        let words = |text: &str| text.split(' ').take(5).collect::<Vec<_>>().join(" ");
        (words(&routes), words(&routes6))
    };
    let by = |network: u8, interface: &str| {
        (
            format!("default via 10.7.{network}.1 dev {interface}"),
            format!("default via fd07:{network}::1 dev {interface}"),
        )
    };
    let request = json!({
        "networks": [{"network": "n1"}, {"network": "n2", "gw_priority": 1}, {"network": "n3", "gw_priority": -1}],
        "ports": [{"host_port": 8080, "container_port": 80}],
    });
    let status = asked(&rig, "c1", &request);
    assert_eq!(status["networks"]["n2"]["gw_priority"], 1);
    assert_eq!(status["networks"]["n1"]["interface"], "eth0", "interfaces are in the order asked for");
    assert_eq!(ways(&rig, "c1"), by(2, "eth1"));
    rig.serve("c1", "here");
    let target = |rig: &Rig| {
        let rules = rig.run("nft", &["list", "map", "ip", "bulkhead", "published"]);
        assert_eq!(rig.get("127.0.0.1:8080"), "here", "{rules}");
        let at = rules.split("10.7.").nth(1).unwrap().split('.').next().unwrap().to_owned();
        at.parse::<u8>().unwrap()
    };
    assert_eq!(target(&rig), 2);
    rig.ok(&["disconnect", "n2", "c1"]);
    assert_eq!((ways(&rig, "c1"), target(&rig)), (by(1, "eth0"), 1));
    // One that comes later goes before the others only if it says so.
    rig.ok(&["connect", "n2", "c1"]);
    assert_eq!((ways(&rig, "c1"), target(&rig)), (by(1, "eth0"), 1));
    rig.ok(&["disconnect", "n2", "c1"]);
    rig.ok(&["connect", "--gw-priority", "5", "n2", "c1"]);
    assert_eq!((ways(&rig, "c1"), target(&rig)), (by(2, "eth1"), 2));
    // One that cannot be joined changes nothing.
    rig.ok(&["disconnect", "n3", "c1"]);
    let why = rig.fails(5, &["connect", "--gw-priority", "9", "--ip", "10.7.3.1", "n3", "c1"]);
    assert!(why.contains("address 10.7.3.1 is reserved"), "{why}");
    assert_eq!((ways(&rig, "c1"), target(&rig)), (by(2, "eth1"), 2));
    for network in ["n2", "n1"] {
        rig.ok(&["disconnect", network, "c1"]);
    }
    rig.ok(&["down", "--wait", "c1"]);
    assert_eq!(rig.left(), "");
}

#[test]
fn a_refused_connection_gives_its_addresses_back() {
    let rig = Rig::new();
    rig.ok(&["create", "--subnet", "10.7.1.0/24", "--subnet", "fd07:1::/64", "n1"]);
    rig.up(&["c1", "--network", "n1", "--ip6", "fd07:1::9"]);
    rig.up(&["c2"]);
    let leases = || std::fs::read_dir(rig.net("leases/n1")).unwrap().count();
    let before = leases();
    let why = rig.fails(5, &["connect", "--ip", "10.7.1.50", "--ip6", "fd07:1::9", "n1", "c2"]);
    assert!(why.contains("address fd07:1::9 already in use by c1"), "{why}");
    assert_eq!(leases(), before);
    for id in ["c1", "c2"] {
        rig.ok(&["down", "--wait", id]);
    }
    assert_eq!(rig.left(), "");
}

#[test]
fn a_killed_connect_is_undone_by_the_next_command_on_that_container() {
    let rig = Rig::new();
    rig.ok(&["create", "--subnet", "10.7.1.0/24", "n1"]);
    rig.up(&["c1", "-p", "8080:80"]);
    for step in 0..40u64 {
        let mut child = rig
            .command(&["connect", "--gw-priority", "1", "n1", "c1"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(step * 400));
        let _ = child.kill();
        let done = child.wait().unwrap().success();
        if step % 2 == 0 && !done {
            rig.ok(&["gc"]);
            let links = rig.inside("c1", &["ip", "-br", "link"]);
            let routes = rig.inside("c1", &["ip", "route", "show", "default"]);
            let is_in = routes.contains("10.7.1.1");
            // Killed at its very end it was done.
            assert_eq!(links.lines().count(), 2 + usize::from(is_in), "{links}{routes}");
            assert_eq!(routes.lines().count(), 1, "{routes}");
        }
        let output = rig.command(&["connect", "n1", "c1"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("is already on network n1"), "{said}");
        rig.ok(&["disconnect", "n1", "c1"]);
        assert!(!rig.net("leases/n1").exists(), "step {step}");
        if done && step > 20 {
            break;
        }
    }
    rig.ok(&["gc"]);
    rig.ok(&["down", "--wait", "c1"]);
    assert_eq!(rig.left(), "");
}
