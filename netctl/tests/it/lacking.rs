//! What is missing or goes away is named in one line, and nothing of the attempt is left; options that show inside.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd as _;

use super::rig::Rig;

#[test]
fn links_that_the_kernel_does_not_have_are_named() {
    let rig = Rig::new();
    rig.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "far0"]);
    let before = rig.left();
    let try_ipvlan = ["link", "add", "link", "lan0", "name", "try0", "type", "ipvlan"];
    if rig.output("ip", &try_ipvlan).status.success() {
        eprintln!("skipped: this kernel has ipvlan");
        rig.run("ip", &["link", "del", "try0"]);
    } else {
        rig.ok(&["create", "-d", "ipvlan", "-o", "parent=lan0", "--subnet", "10.7.0.0/24", "wire"]);
        let why = rig.fails(7, &["up", "c1", "--network", "wire"]);
        assert!(why.contains("network wire: this kernel has no ipvlan links"), "{why}");
        assert_eq!(rig.left(), before);
    }
    rig.fails(3, &["create", "-d", "macvlan", "-o", "parent=nosuch0.30", "--subnet", "10.9.0.0/24", "trunk"]);
    rig.ok(&["create", "-d", "macvlan", "-o", "parent=lan0.30", "--subnet", "10.9.0.0/24", "trunk"]);
    let up = rig.command(&["up", "c1", "--network", "trunk"]).output().unwrap();
    let why = String::from_utf8(up.stderr).unwrap();
    if up.status.success() {
        rig.ok(&["down", "--wait", "c1"]);
    } else {
        assert!(why.contains("this kernel has no VLAN links for lan0.30"), "{why}");
    }
    assert_eq!(rig.left(), before);
    rig.ok(&["create", "-o", "vlan=20", "tagged"]);
    if rig.command(&["up", "c1", "--network", "tagged"]).output().unwrap().status.success() {
        eprintln!("skipped: this kernel's bridges have VLAN filtering");
        rig.ok(&["down", "--wait", "c1"]);
    } else {
        let why = rig.fails(7, &["up", "c1", "--network", "tagged"]);
        assert!(why.contains("network tagged: this kernel's bridges have no VLAN filtering"), "{why}");
    }
    assert_eq!(rig.left(), before);
    rig.ok(&["create", "-o", "vrf=nosuch", "apart"]);
    let why = rig.fails(3, &["up", "c1", "--network", "apart"]);
    assert!(why.contains("no vrf nosuch"), "{why}");
    rig.ok(&["create", "-d", "macvlan", "-o", "parent=lan0", "--subnet", "10.8.0.0/24", "cable"]);
    rig.run("ip", &["link", "del", "lan0"]);
    let why = rig.fails(3, &["up", "c1", "--network", "cable"]);
    assert!(why.contains("network cable: no interface lan0"), "{why}");
    assert_eq!(rig.left(), "");
}

#[test]
fn a_namespace_that_goes_away_keeps_nobody_from_cleaning_up() {
    let rig = Rig::new();
    rig.ok(&["create", "n1"]);
    rig.up(&["c1", "-p", "8080:80"]);
    rig.run("umount", &[rig.net("ns/c1").to_str().unwrap()]);
    for args in [["connect", "n1", "c1"], ["disconnect", "bridge", "c1"]] {
        let why = rig.fails(4, &args);
        assert!(why.contains("the network namespace of c1 has gone: netctl down c1"), "{why}");
    }
    // The id can come again: what there was of it means nothing.
    rig.up(&["c1", "-p", "8080:80"]);
    rig.run("umount", &[rig.net("ns/c1").to_str().unwrap()]);
    assert_eq!(rig.ok(&["gc"]), "c1\n");
    assert_eq!(rig.left(), "");
    rig.up(&["c1", "--network", "n1"]);
    std::fs::remove_dir_all(rig.net("files")).unwrap();
    rig.run("umount", &[rig.net("ns/c1").to_str().unwrap()]);
    rig.ok(&["down", "--wait", "c1"]);
    assert_eq!(rig.left(), "");
}

#[test]
fn a_default_route_has_the_networks_metric() {
    let rig = Rig::new();
    rig.ok(&["create", "--subnet", "10.7.0.0/24", "-o", "metric=50", "n1"]);
    rig.ok(&["create", "--subnet", "10.8.0.0/24", "-o", "metric=60", "n2"]);
    rig.up(&["c1", "--network", "n1", "--network", "n2"]);
    let routes = || rig.inside("c1", &["ip", "route"]);
    assert!(routes().starts_with("default via 10.7.0.1 dev eth0 proto static metric 50"), "{}", routes());
    rig.ok(&["disconnect", "n1", "c1"]);
    assert!(routes().starts_with("default via 10.8.0.1 dev eth1 proto static metric 60"), "{}", routes());
    rig.ok(&["down", "--wait", "c1"]);
}

fn hides_behind_an_address(firewall: &'static str) {
    let mut rig = Rig::new();
    rig.firewall = firewall;
    let name = format!("bulkhead-out-{}{firewall}", std::process::id());
    rig.run("ip", &["netns", "add", &name]);
    rig.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "far0", "netns", &name]);
    for address in ["192.168.7.1/24", "192.168.7.3/24"] {
        rig.run("ip", &["addr", "add", address, "dev", "lan0"]);
    }
    rig.run("ip", &["link", "set", "lan0", "up"]);
    rig.run("ip", &["-n", &name, "addr", "add", "192.168.7.2/24", "dev", "far0"]);
    rig.run("ip", &["-n", &name, "link", "set", "far0", "up"]);
    rig.ok(&["create", "n1"]);
    rig.ok(&["create", "-o", "com.docker.network.host_ipv4=192.168.7.3", "n2"]);
    let there = File::open(format!("/run/netns/{name}")).unwrap();
    let listener = std::thread::spawn(move || {
        sys::namespace::join(there.as_fd(), nix::libc::CLONE_NEWNET).unwrap();
        TcpListener::bind("192.168.7.2:8000").unwrap()
    });
    let listener = listener.join().unwrap();
    for (id, network, from) in [("c1", "n1", "192.168.7.1"), ("c2", "n2", "192.168.7.3")] {
        rig.up(&[id, "--network", network]);
        rig.inside(id, &["timeout", "20", "busybox", "nc", "-w", "9", "192.168.7.2", "8000"]);
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), from, "{firewall}");
        rig.ok(&["down", "--wait", id]);
    }
    rig.run("ip", &["netns", "del", &name]);
}

#[test]
fn packets_can_hide_behind_an_address_of_choice() {
    hides_behind_an_address("nftables");
}

#[test]
fn packets_can_hide_behind_an_address_of_choice_by_iptables() {
    if Rig::new().output("iptables-save", &[]).status.success() {
        hides_behind_an_address("iptables");
    } else {
        eprintln!("skipped: iptables does not work here");
    }
}
