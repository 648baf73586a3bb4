//! One network on several hosts.

use std::time::Duration;

use super::lan::{Host, Lan};
use super::rig::{Rig, until};

const LIST: &str = "peers=192.168.7.1,192.168.7.2,192.168.7.3";

fn create(lan: &Lan, options: &[&str]) {
    for host in &lan.hosts {
        let mut args = vec!["create", "-d", "overlay", "--subnet", "10.50.0.0/16"];
        args.extend(options.iter().flat_map(|option| ["-o", option]));
        args.push("wide");
        host.ok(&args);
    }
}

/// What a host has left of a network; a veth pair goes with its namespace, a moment later.
fn left(host: &Host) -> String {
    let link = |kind| host.says("ip", &["-br", "link", "show", "type", kind]);
    link("bridge") + &link("vxlan") + &host.says("nft", &["list", "ruleset"])
}

#[test]
fn containers_on_three_hosts_are_on_one_network() {
    let mut lan = Lan::new("wide", 3);
    create(&lan, &[LIST]);
    let mut addresses = Vec::new();
    for host in &lan.hosts {
        let status = host.up(&["c1", "--network", "wide", "-p", "8080:80"]);
        addresses.push(status["networks"]["wide"]["address"].as_str().unwrap().replace("/16", ""));
    }
    assert_eq!(addresses, ["10.50.0.2", "10.50.16.0", "10.50.32.0"], "each host leases from its own part");
    for host in &lan.hosts {
        for to in &addresses {
            assert!(host.pings("c1", to), "{to}");
        }
        assert!(host.inside("c1", &["ip", "link", "show", "eth0"]).contains("mtu 1450"));
    }
    // A full frame, too: what the tunnel adds has its place.
    lan.hosts[2].serve("c1", &"x".repeat(20_000));
    let got = lan.hosts[0].inside("c1", &["curl", "-sm5", "10.50.32.0"]);
    assert_eq!(got.len(), 20_000);
    // A published port: from another machine, from another host's container, by the overlay's own address of the host.
    assert_eq!(lan.hosts[1].says("curl", &["-sm5", "192.168.7.3:8080"]).len(), 20_000);
    for url in ["192.168.7.3:8080", "10.50.32.1:8080"] {
        assert_eq!(lan.hosts[1].inside("c1", &["curl", "-sm5", url]).len(), 20_000, "{url}");
    }
    // Whatever is lost comes back with a reload.
    let link = lan.hosts[0].says("ip", &["-br", "link", "show", "type", "vxlan"]);
    let link = link.split_whitespace().next().unwrap();
    for damage in [vec!["bridge", "fdb", "flush", "dev", link], vec!["ip", "link", "del", link]] {
        assert!(lan.hosts[0].does(damage[0], &damage[1..]).status().unwrap().success());
        lan.hosts[0].inside("c1", &["ip", "neigh", "flush", "all"]);
        lan.hosts[0].ok(&["reload"]);
        assert!(lan.hosts[0].pings("c1", &addresses[2]), "after {damage:?}");
    }
    for host in &lan.hosts {
        host.ok(&["down", "--wait", "c1"]);
        assert_eq!(left(host), "");
        host.ok(&["rm", "wide"]);
    }
}

#[test]
fn a_killed_up_on_an_overlay_is_undone() {
    let lan = Lan::new("kill", 2);
    create(&lan, &[LIST]);
    lan.hosts[1].up(&["far", "--network", "wide"]);
    for step in 0..40 {
        let mut command = lan.hosts[0].does(env!("CARGO_BIN_EXE_netctl"), &["up", "c1", "--network", "wide"]);
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(step * 500));
        let _ = child.kill();
        child.wait().unwrap();
        lan.hosts[0].ok(&["down", "--wait", "c1"]);
        assert_eq!(left(&lan.hosts[0]), "");
    }
    lan.hosts[0].up(&["c1", "--network", "wide"]);
    assert!(lan.hosts[0].pings("c1", "10.50.16.0"));
}

#[test]
fn a_shared_directory_gives_parts_and_names() {
    let lan = Lan::new("names", 3);
    let shared = tempfile::tempdir().unwrap();
    let peers = format!("peers={}", shared.path().display());
    // This host's address cannot be found in a list that is still empty.
    for (number, host) in lan.hosts.iter().enumerate() {
        let local = format!("local=192.168.7.{}", number + 1);
        let args =
            ["create", "-d", "overlay", "--subnet", "10.50.0.0/16", "-o", &peers, "-o", &local, "wide"];
        host.ok(&args);
    }
    let first = lan.hosts[0].up(&["c1", "--name", "web", "--network", "wide"]);
    assert_eq!(first["networks"]["wide"]["address"], "10.50.0.2/16");
    lan.hosts[1].up(&["c2", "--name", "db", "--network", "wide"]);
    lan.hosts[2].up(&["c3", "--name", "cache", "--network", "wide"]);
    let asked = |host: usize, id: &str, name: &str, server: &str| {
        lan.hosts[host].inside(id, &["busybox", "nslookup", name, server])
    };
    // Those who came later are seen without a command here.
    until("the name is known", || asked(0, "c1", "cache", "10.50.0.1").contains("10.50.32."));
    until("the name is known", || asked(1, "c2", "web", "10.50.16.1").contains("10.50.0.2"));
    lan.hosts[0].ok(&["reload"]);
    assert!(lan.hosts[0].pings("c1", "10.50.32.0"));
    lan.hosts[2].ok(&["down", "c3"]);
    until("the name is forgotten", || !asked(0, "c1", "cache", "10.50.0.1").contains("10.50.32."));
    // A host that leaves gives its part back.
    lan.hosts[2].ok(&["rm", "wide"]);
    assert!(!shared.path().join("192.168.7.3").exists());
}

#[test]
fn hosts_that_are_neighbours_route_to_each_other() {
    let lan = Lan::new("route", 3);
    create(&lan, &[LIST, "backend=host-gw"]);
    for host in &lan.hosts {
        host.up(&["c1", "--network", "wide"]);
    }
    assert!(lan.hosts[0].inside("c1", &["ip", "link", "show", "eth0"]).contains("mtu 1500"));
    for host in &lan.hosts {
        for to in ["10.50.0.2", "10.50.16.2", "10.50.32.2"] {
            assert!(host.pings("c1", to), "{to}");
        }
    }
    lan.hosts[0].does("ip", &["route", "flush", "proto", "143"]).status().unwrap();
    assert!(!lan.hosts[0].pings("c1", "10.50.16.2"));
    lan.hosts[0].ok(&["reload"]);
    assert!(lan.hosts[0].pings("c1", "10.50.16.2"));
    lan.hosts[0].ok(&["down", "--wait", "c1"]);
    assert!(!lan.hosts[0].says("ip", &["route"]).contains("10.50"));
}

#[test]
fn gre_needs_its_kernel_module() {
    let lan = Lan::new("gre", 2);
    create(&lan, &[LIST, "backend=gre"]);
    let output = lan.hosts[0].netctl(&["up", "c1", "--network", "wide"]);
    if output.status.success() {
        lan.hosts[1].up(&["c1", "--network", "wide"]);
        assert!(lan.hosts[0].pings("c1", "10.50.16.0"));
        return;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("this kernel has no gretap links"), "{text}");
    assert_eq!((output.status.code(), text.lines().count()), (Some(7), 1));
    assert_eq!(left(&lan.hosts[0]), "");
}

#[test]
fn what_cannot_be_an_overlay_is_refused() {
    let rig = Rig::new();
    let with = |options: &[&str]| {
        let mut args = vec!["create", "-d", "overlay", "--subnet", "10.50.0.0/16"];
        args.extend(options.iter().flat_map(|option| ["-o", option]));
        args.push("wide");
        args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let fails = |code: i32, options: &[&str]| {
        let args = with(options);
        rig.fails(code, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    rig.fails(2, &["create", "-d", "overlay", "-o", "peers=127.0.0.1", "wide"]);
    assert!(fails(3, &["peers=192.168.99.1"]).contains("none of its peers is an address of this host"));
    assert!(fails(3, &["peers=127.0.0.1", "local=192.168.99.1"]).contains("no such address"));
    assert!(fails(2, &["peers=web1"]).contains("is not an address"));
    assert!(fails(5, &["peers=127.0.0.1=10.50.0.0/20,10.0.0.9=10.50.8.0/24"]).contains("overlaps"));
    assert!(fails(7, &["peers=127.0.0.1", "encrypted"]).contains("not encrypted"));
    assert!(fails(2, &["peers=127.0.0.1", "vxlan-id=16777216"]).contains("vxlan-id"));
    assert!(fails(1, &["peers=/nonexistent/list"]).contains("/nonexistent/list"));
    assert_eq!(rig.ok(&["ls", "--format", "{{.Name}}"]), "bridge\nhost\nnone\n");
}
