//! Addresses from the network's own DHCP server: busybox' udhcpd at the other end of a cable.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::netavark::call;
use super::rig::Rig;

/// A namespace with a router at 10.55.0.1, whose cable ends at the host's `lan0`.
struct Site {
    name: String,
    dir: PathBuf,
    server: Option<Child>,
    /// The name server that it tells.
    dns: &'static str,
}

impl Site {
    fn new(rig: &Rig, test: &str) -> Self {
        let name = format!("bulkhead-dhcp-{test}-{}", std::process::id());
        rig.run("ip", &["netns", "add", &name]);
        rig.run("ip", &["link", "add", "lan0", "type", "veth", "peer", "name", "up0", "netns", &name]);
        rig.run("ip", &["link", "set", "lan0", "up"]);
        for line in ["addr add 10.55.0.1/24 dev up0", "link set up0 up", "link set lo up"] {
            rig.run("ip", &[&["-n", &name], &line.split(' ').collect::<Vec<_>>()[..]].concat());
        }
        let dir = rig.net("").join("site");
        std::fs::create_dir_all(&dir).unwrap();
        Self { name, dir, server: None, dns: "10.55.0.7" }
    }

    /// Gives addresses from `first` to `last` for so many seconds.
    fn serve(&mut self, first: &str, last: &str, seconds: u32) {
        self.stop();
        let (config, leases) = (self.dir.join("udhcpd.conf"), self.dir.join("leases"));
        let text = format!(
            "start {first}\nend {last}\ninterface up0\nmin_lease 1\nlease_file {}\npidfile {}\n\
             option subnet 255.255.255.0\noption router 10.55.0.1\noption dns {}\noption domain site.example\n\
             option lease {seconds}\n",
            leases.display(),
            self.dir.join("pid").display(),
            self.dns,
        );
        std::fs::write(&config, text).unwrap();
        std::fs::write(leases, "").unwrap();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).args(["busybox", "udhcpd", "-f"]).arg(config);
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().unwrap());
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Servers look first whether somebody has an address, and slow machines take their time.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_possible(rig: &Rig) -> bool {
    let made = rig.output("ip", &["link", "add", "try0", "link", "lan0", "type", "macvlan"]).status.success();
    let has_server = rig.run("busybox", &["--list"]).lines().any(|applet| applet == "udhcpd");
    if !made || !has_server {
        eprintln!("skipped: no macvlan links in this kernel, or no udhcpd in busybox");
        return false;
    }
    rig.run("ip", &["link", "del", "try0"]);
    true
}

#[test]
fn an_address_of_the_site_is_asked_for_and_given_back() {
    let rig = Rig::new();
    let mut site = Site::new(&rig, "give");
    if !is_possible(&rig) {
        return;
    }
    // One address only, for hours: the second container gets it if the first has given it back.
    site.serve("10.55.0.50", "10.55.0.50", 7200);
    rig.ok(&["create", "-d", "macvlan", "--opt", "parent=lan0", "--ipam-driver", "dhcp", "site"]);
    let shown: Value = serde_json::from_str(&rig.ok(&["inspect", "site"])).unwrap();
    assert_eq!(shown[0]["IPAM"]["Driver"], "dhcp");
    let status = rig.up(&["a", "--network", "site", "--hostname", "web"]);
    let endpoint = &status["networks"]["site"];
    assert_eq!((&endpoint["address"], &endpoint["gateway"]), (&json!("10.55.0.50/24"), &json!("10.55.0.1")));
    let read = |path: &Value| std::fs::read_to_string(path.as_str().unwrap()).unwrap();
    assert_eq!(read(&status["resolv_conf"]), "nameserver 10.55.0.7\nsearch site.example\n");
    assert!(read(&status["hosts"]).contains("10.55.0.50\tweb"));
    assert!(rig.inside("a", &["ip", "route"]).contains("default via 10.55.0.1 dev eth0"));
    assert!(rig.inside("a", &["busybox", "ping", "-c1", "-W9", "10.55.0.1"]).contains("1 packets received"));
    let why = rig.fails(1, &["up", "b", "--network", "site"]);
    assert!(why.contains("network site: interface eth0 of b: no DHCP server gave an address"), "{why}");
    rig.ok(&["disconnect", "site", "a"]);
    let status: Value = serde_json::from_str(&rig.ok(&["connect", "site", "a"])).unwrap();
    assert_eq!(status["networks"]["site"]["address"], "10.55.0.50/24", "given back and asked for again");
    rig.ok(&["down", "--wait", "a"]);
    let status = rig.up(&["b", "--network", "site"]);
    assert_eq!(status["networks"]["site"]["address"], "10.55.0.50/24");
    rig.ok(&["down", "--wait", "b"]);
    rig.ok(&["rm", "site"]);
    rig.run("ip", &["link", "del", "lan0"]);
    eventually("the keeper leaves", || !rig.net("dhcp.pid").exists());
    assert_eq!(rig.left().lines().filter(|line| !line.contains("/site/")).count(), 0, "{}", rig.left());
}

#[test]
fn a_lease_is_prolonged_and_a_changed_address_taken_over() {
    let rig = Rig::new();
    let mut site = Site::new(&rig, "keep");
    if !is_possible(&rig) {
        return;
    }
    site.serve("10.55.0.60", "10.55.0.60", 10);
    rig.ok(&["create", "-d", "macvlan", "--opt", "parent=lan0", "--ipam-driver", "dhcp", "site"]);
    rig.up(&["a", "--network", "site"]);
    let since = || {
        let text = std::fs::read_to_string(rig.net("dhcp/a,eth0.json")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).unwrap_or_default()["since"].as_u64().unwrap_or(0)
    };
    let first = since();
    eventually("the lease is prolonged", || since() > first + 1);
    assert!(rig.inside("a", &["ip", "-br", "addr"]).contains("10.55.0.60/24"), "and the same");
    // The keeper dies; whoever comes by has another one started.
    let keeper =
        || -> Value { serde_json::from_str(&std::fs::read_to_string(rig.net("dhcp.pid")).unwrap()).unwrap() };
    let killed = keeper();
    site.dns = "10.55.0.8";
    rig.run("kill", &["-9", &killed["pid"].to_string()]);
    site.serve("10.55.0.70", "10.55.0.79", 10);
    eventually("another keeper", || {
        rig.ok(&["gc"]);
        keeper() != killed
    });
    let shown = || rig.inside("a", &["ip", "-br", "addr"]);
    eventually("another address", || shown().contains("10.55.0.7") && !shown().contains("10.55.0.60"));
    // The container's files and the record follow, in place.
    let file = |name: &str| std::fs::read_to_string(rig.net("files/a").join(name)).unwrap();
    eventually("another name server", || file("resolv.conf").starts_with("nameserver 10.55.0.8\n"));
    eventually("the hosts file", || {
        file("hosts").contains("10.55.0.7") && !file("hosts").contains("10.55.0.60")
    });
    let record = std::fs::read_to_string(rig.net("attachments/a.json")).unwrap();
    assert!(record.contains("10.55.0.7") && !record.contains("10.55.0.60"), "{record}");
    assert!(rig.inside("a", &["ip", "route"]).contains("default via 10.55.0.1 dev eth0"));
    // Its namespace goes without a word: the keeper notices at the latest when it would prolong the lease.
    rig.run("umount", &[rig.net("ns/a").to_str().unwrap()]);
    eventually("the keeper leaves", || !rig.net("dhcp.pid").exists());
    assert_eq!(rig.ok(&["gc"]), "a\n");
}

/// Starts an `up` that nobody answers, and returns when it asks.
fn asking(rig: &Rig, id: &str) -> Child {
    let child = rig.command(&["up", id, "--network", "site"]).stderr(Stdio::piped()).spawn().unwrap();
    let record = rig.net("attachments").join(format!("{id}.json"));
    eventually("it asks", || std::fs::read_to_string(&record).unwrap_or_default().contains("\"joining\""));
    child
}

#[test]
fn nobody_waits_for_a_server_that_another_container_asks() {
    let rig = Rig::new();
    let site = Site::new(&rig, "wait");
    if !is_possible(&rig) {
        return;
    }
    rig.ok(&["create", "-d", "macvlan", "--opt", "parent=lan0", "--ipam-driver", "dhcp", "site"]);
    let mut slow = asking(&rig, "a");
    // Others come and go meanwhile, and see what is.
    rig.up(&["b", "-p", "8080:80"]);
    rig.ok(&["down", "--wait", "b"]);
    assert_eq!(rig.ok(&["gc"]), "", "it is at work");
    for args in [["connect", "bridge", "a"], ["disconnect", "site", "a"]] {
        let why = rig.fails(5, &args);
        assert!(why.contains("a is being attached by process"), "{why}");
    }
    assert!(rig.fails(4, &["up", "a"]).contains("a is already attached"));
    assert!(slow.try_wait().unwrap().is_none(), "all of that in less than the ten seconds that it asks");
    // Taken away meanwhile: it says so, and leaves the next one of that name alone.
    rig.ok(&["down", "--wait", "a"]);
    rig.up(&["a"]);
    let output = slow.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("network site: a was detached meanwhile") && said.lines().count() == 1, "{said}");
    assert!(rig.inside("a", &["ip", "-br", "addr"]).contains("eth0"));
    rig.ok(&["down", "--wait", "a"]);
    // Killed while it asks: the next gc, down or up of that name undoes it.
    for next in [&["gc"][..], &["down", "--wait", "a"], &["up", "a"]] {
        let mut child = asking(&rig, "a");
        child.kill().unwrap();
        child.wait().unwrap();
        rig.ok(next);
        rig.ok(&["down", "--wait", "a"]);
        assert_eq!(rig.left().lines().filter(|line| !line.contains("lan0")).count(), 0, "{}", rig.left());
    }
    drop(site);
}

#[test]
fn a_site_that_goes_before_the_others_takes_the_default_route() {
    let rig = Rig::new();
    let mut site = Site::new(&rig, "lead");
    if !is_possible(&rig) {
        return;
    }
    site.serve("10.55.0.90", "10.55.0.99", 7200);
    rig.ok(&["create", "-d", "macvlan", "--opt", "parent=lan0", "--ipam-driver", "dhcp", "site"]);
    rig.ok(&["create", "--subnet", "10.7.1.0/24", "n1"]);
    rig.up(&["a", "--network", "n1"]);
    let ways = || rig.inside("a", &["ip", "route", "show", "default"]);
    rig.ok(&["connect", "--gw-priority", "1", "site", "a"]);
    assert!(
        ways().starts_with("default via 10.55.0.1 dev eth1") && ways().lines().count() == 1,
        "{}",
        ways()
    );
    rig.ok(&["disconnect", "site", "a"]);
    assert!(ways().starts_with("default via 10.7.1.1 dev eth0") && ways().lines().count() == 1, "{}", ways());
    rig.ok(&["connect", "site", "a"]);
    assert!(ways().starts_with("default via 10.7.1.1 dev eth0") && ways().lines().count() == 1, "{}", ways());
    rig.ok(&["disconnect", "n1", "a"]);
    assert!(
        ways().starts_with("default via 10.55.0.1 dev eth1") && ways().lines().count() == 1,
        "{}",
        ways()
    );
    rig.ok(&["down", "--wait", "a"]);
}

#[test]
fn podmans_macvlan_gets_its_address_from_the_site() {
    let rig = Rig::new();
    let mut site = Site::new(&rig, "podman");
    if !is_possible(&rig) {
        return;
    }
    site.serve("10.55.0.80", "10.55.0.80", 7200);
    rig.up(&["a", "--network", "none"]);
    let netns = rig.net("ns").join("a").to_str().unwrap().to_owned();
    let input = json!({
        "container_id": "a", "container_name": "a", "container_hostname": "web",
        "networks": [{"name": "site", "interface_name": "eth0"}],
        "network_info": {"site": {
            "name": "site", "id": "00", "driver": "macvlan", "network_interface": "lan0", "internal": false,
            "dns_enabled": false, "ipv6_enabled": false, "ipam_options": {"driver": "dhcp"},
        }},
    });
    let (done, status) = call(&rig, &["setup", &netns], &input);
    assert!(done, "{status}");
    let site_status = &status["site"];
    assert_eq!(site_status["dns_server_ips"], json!(["10.55.0.7"]));
    assert_eq!(site_status["dns_search_domains"], json!(["site.example"]));
    let subnets = &site_status["interfaces"]["eth0"]["subnets"];
    assert_eq!(subnets, &json!([{"gateway": "10.55.0.1", "ipnet": "10.55.0.80/24"}]));
    assert!(
        rig.inside("a", &["ip", "route"]).contains("default via 10.55.0.1 dev eth0 proto static metric 99")
    );
    assert_eq!(call(&rig, &["teardown", &netns], &input), (true, Value::Null));
    let (done, status) = call(&rig, &["setup", &netns], &input);
    assert!(done, "given back: {status}");
    assert_eq!(call(&rig, &["teardown", &netns], &input), (true, Value::Null));
    let (done, said) = call(&rig, &["dhcp-proxy", "--activity-timeout", "30"], &json!(null));
    assert!(!done && said["error"].as_str().unwrap().starts_with("dhcp-proxy"), "{said}");
    rig.ok(&["down", "--wait", "a"]);
}
