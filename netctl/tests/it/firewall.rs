//! The same behaviour, whoever keeps the rules.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::rig::Rig;

const KINDS: [&str; 3] = ["nftables", "iptables", "iptables-legacy"];

/// Whether this host has the programs, and its kernel their tables.
fn is_known(kind: &str) -> bool {
    if kind == "nftables" {
        return true;
    }
    let listed = Command::new(kind).args(["-t", "nat", "-S"]).stdin(Stdio::null()).output();
    let known = listed.is_ok_and(|output| output.status.success());
    if !known {
        eprintln!("skipped: no {kind} on this host");
    }
    known
}

/// Runs a test on each back end that this host has, each on a host of its own.
fn on_each(test: fn(&mut Rig)) {
    for kind in KINDS.into_iter().filter(|kind| is_known(kind)) {
        let mut rig = Rig::new();
        rig.firewall = kind;
        test(&mut rig);
        let left = rig.left_of_rules();
        assert_eq!(left, "", "{kind}");
    }
}

/// Another machine, 192.168.7.2, joined to the host (192.168.7.1); what it gets by HTTP.
fn neighbour(rig: &Rig) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("bulkhead-test-fw{number}-{}", std::process::id());
    rig.run("ip", &["netns", "add", &name]);
    rig.run("ip", &["link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", &name]);
    rig.run("ip", &["addr", "add", "192.168.7.1/24", "dev", "lan"]);
    rig.run("ip", &["link", "set", "lan", "up"]);
    for line in
        ["addr add 192.168.7.2/24 dev eth0", "link set eth0 up", "route add 10.0.0.0/8 via 192.168.7.1"]
    {
        rig.run("ip", &[&["-n", &name], &line.split(' ').collect::<Vec<_>>()[..]].concat());
    }
    name
}

fn far(rig: &Rig, name: &str, url: &str) -> String {
    let output = rig.output("ip", &["netns", "exec", name, "curl", "-sm1", url]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn ports_answer_whom_they_should() {
    on_each(|rig| {
        let lan = neighbour(rig);
        rig.ok(&["create", "--subnet", "10.7.0.0/24", "other"]);
        rig.up(&["c1", "--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "9000:9000/udp"]);
        rig.up(&["c2"]);
        rig.up(&["c3", "--network", "other"]);
        rig.serve("c1", "hello");
        for url in ["127.0.0.1:8080", "127.0.0.1:8081", "192.168.7.1:8080", "10.90.0.2"] {
            assert_eq!(rig.get(url), "hello", "{} {url}", rig.firewall);
        }
        for id in ["c1", "c2", "c3"] {
            assert_eq!(
                rig.inside(id, &["curl", "-sm2", "10.90.0.1:8080"]),
                "hello",
                "{} from {id}",
                rig.firewall
            );
        }
        assert_eq!(rig.inside("c3", &["curl", "-sm1", "10.90.0.2"]), "", "networks are apart");
        assert_eq!(far(rig, &lan, "192.168.7.1:8080"), "hello");
        assert_eq!(far(rig, &lan, "192.168.7.1:8081"), "", "on 127.0.0.1 only");
        assert_eq!(far(rig, &lan, "10.90.0.2"), "", "not published");
        assert!(rig.inside("c2", &["busybox", "nslookup", "web", "10.90.0.1"]).contains("10.90.0.2"));
        assert!(
            rig.inside("c2", &["busybox", "ping", "-c1", "-W2", "192.168.7.2"])
                .contains("1 packets received")
        );
        rig.ok(&["down", "--wait", "c1"]);
        assert_eq!(rig.get("127.0.0.1:8080"), "");
        for id in ["c2", "c3"] {
            rig.ok(&["down", "--wait", id]);
        }
        rig.run("ip", &["netns", "del", &lan]);
    });
}

#[test]
fn flushed_rules_come_back_everywhere() {
    on_each(|rig| {
        rig.up(&["c1", "-p", "8080:80"]);
        rig.serve("c1", "back");
        let flush = |rig: &Rig| match rig.firewall {
            "nftables" => drop(rig.run("nft", &["flush", "ruleset"])),
            program => {
                for table in ["nat", "filter", "raw"] {
                    rig.run(program, &["-t", table, "-F"]);
                    rig.run(program, &["-t", table, "-X"]);
                }
            }
        };
        flush(rig);
        assert_eq!(rig.get("127.0.0.1:8080"), "");
        rig.ok(&["reload"]);
        assert_eq!(rig.get("127.0.0.1:8080"), "back", "{}", rig.firewall);
        rig.ok(&["reload"]);
        flush(rig);
        rig.up(&["c2", "-p", "8081:80"]);
        assert_eq!(rig.get("127.0.0.1:8080"), "back", "the next port brings all of them back");
        flush(rig);
        rig.ok(&["down", "--wait", "c1"]);
        rig.ok(&["down", "--wait", "c2"]);
    });
}

#[test]
fn containers_that_may_not_talk_and_networks_without_a_way_out() {
    on_each(|rig| {
        let lan = neighbour(rig);
        for filtered in ["0", "1"] {
            if std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", filtered).is_err() {
                eprintln!("skipped: no br_netfilter here");
            }
            rig.ok(&["create", "--subnet", "10.7.0.0/24", "-o", "icc=false", "quiet"]);
            rig.ok(&["create", "--subnet", "10.8.0.0/24", "--internal", "closed"]);
            rig.up(&["c1", "--network", "quiet", "-p", "8080:80"]);
            rig.up(&["c2", "--network", "quiet"]);
            rig.up(&["c3", "--network", "closed"]);
            rig.serve("c1", "hello");
            let label = format!("{} br_netfilter={filtered}", rig.firewall);
            assert_eq!(rig.inside("c2", &["curl", "-sm1", "10.7.0.2"]), "", "{label}");
            assert_eq!(rig.inside("c2", &["curl", "-sm2", "10.7.0.1:8080"]), "hello", "{label}");
            assert_eq!(rig.inside("c1", &["curl", "-sm2", "10.7.0.1:8080"]), "hello", "{label}");
            assert!(
                rig.inside("c2", &["busybox", "ping", "-c1", "-W2", "192.168.7.2"]).contains("1 packets")
            );
            assert_eq!(
                rig.inside("c3", &["curl", "-sm1", "10.8.0.1:8080"]),
                "",
                "{label}: no way out, not by a port"
            );
            rig.inside("c3", &["ip", "route", "add", "default", "via", "10.8.0.1"]);
            let out = rig.inside("c3", &["busybox", "ping", "-c1", "-W1", "192.168.7.2"]);
            assert!(!out.contains("1 packets received"), "{label}: {out}");
            for id in ["c1", "c2", "c3"] {
                rig.ok(&["down", "--wait", id]);
            }
            rig.ok(&["rm", "quiet", "closed"]);
        }
        rig.run("ip", &["netns", "del", &lan]);
    });
}

#[test]
fn ipv6_by_its_own_programs() {
    on_each(|rig| {
        // A bridge that filters gives answers their address of ::1 too early: the kernel drops them.
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0");
        rig.ok(&["create", "--subnet", "10.7.0.0/24", "--subnet", "fd07::/64", "dual"]);
        rig.up(&["c1", "--network", "dual", "-p", "8080:80", "-p", "[::1]:8081:80"]);
        rig.up(&["c2", "--network", "dual"]);
        rig.serve("c1", "six");
        for url in
            ["http://[fd07::1]:8080/", "http://[::1]:8080/", "http://[::1]:8081/", "http://127.0.0.1:8080/"]
        {
            assert_eq!(rig.get(url), "six", "{} {url}", rig.firewall);
        }
        assert_eq!(rig.inside("c2", &["curl", "-sm3", "http://[fd07::1]:8080/"]), "six");
        assert_eq!(rig.inside("c2", &["curl", "-sm1", "http://[fd07::1]:8081/"]), "", "on ::1 only");
        rig.ok(&["down", "--wait", "c1"]);
        rig.ok(&["down", "--wait", "c2"]);
    });
}

#[test]
fn rules_move_and_contradictions_are_told() {
    let mut rig = Rig::new();
    rig.up(&["c1", "-p", "8080:80"]);
    rig.serve("c1", "moved");
    assert!(
        rig.fails(4, &["up", "c2", "--firewall", "iptables", "-p", "8081:80"])
            .contains("netctl reload --firewall iptables")
    );
    assert!(rig.fails(2, &["up", "c2", "--firewall", "pf"]).contains("iptables-legacy or none"));
    for kind in ["iptables", "iptables-legacy", "nftables"].into_iter().filter(|kind| is_known(kind)) {
        rig.ok(&["reload", "--firewall", kind]);
        assert_eq!(rig.get("127.0.0.1:8080"), "moved", "{kind}");
        let left = rig.left_of_rules();
        assert_eq!(left.contains("table ip bulkhead"), kind == "nftables", "{kind}: {left}");
        assert_eq!(left.contains(":BULKHEAD-PUBLISH"), kind != "nftables", "{kind}: {left}");
    }
    rig.ok(&["down", "--wait", "c1"]);
    assert_eq!(rig.left_of_rules(), "");
    // Nobody is attached: the next one may choose, and `none` makes no rules.
    rig.ok(&["up", "c3", "--firewall", "none", "-p", "8080:80"]);
    assert_eq!(rig.left_of_rules(), "");
    rig.ok(&["down", "--wait", "c3"]);
}

#[test]
fn a_host_that_forwards_nothing_by_default_gets_its_rules_there() {
    if !is_known("iptables") {
        return;
    }
    let mut rig = Rig::new();
    rig.run("iptables", &["-P", "FORWARD", "DROP"]);
    rig.run("iptables", &["-N", "USERS"]);
    rig.run("iptables", &["-A", "FORWARD", "-j", "USERS"]);
    let lan = neighbour(&rig);
    rig.up(&["c1", "-p", "8080:80"]);
    rig.serve("c1", "through");
    assert_eq!(far(&rig, &lan, "192.168.7.1:8080"), "through");
    assert!(
        rig.inside("c1", &["busybox", "ping", "-c1", "-W2", "192.168.7.2"]).contains("1 packets received")
    );
    rig.ok(&["down", "--wait", "c1"]);
    let rules = rig.run("iptables", &["-S"]);
    assert_eq!(rules, "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N USERS\n-A FORWARD -j USERS\n");
    rig.run("ip", &["netns", "del", &lan]);
}

#[test]
fn missing_programs_are_named() {
    let rig = Rig::new();
    let output =
        rig.command(&["up", "c1", "--firewall", "iptables"]).env("PATH", "/nonexistent").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{text}");
    assert!(text.contains("program iptables-restore is missing: install iptables"), "{text}");
    assert_eq!(rig.left_of_rules(), "");
}
