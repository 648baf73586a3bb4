//! Packets of every kind, over every kind of network.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;

use sys::retry::uninterrupted;

use super::rig::{Rig, until};

const PING: [&str; 4] = ["busybox", "ping", "-c1", "-W1"];

/// Answers datagrams on a port of a container with its id, for as long as the test's process runs.
fn echo(rig: &Rig, id: &'static str, port: u16) {
    let namespace = std::fs::File::open(rig.net("ns").join(id)).unwrap();
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sys::namespace::join(namespace.as_fd(), nix::libc::CLONE_NEWNET).unwrap();
        let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap();
        // The open descriptor would keep the namespace for ever.
        drop(namespace);
        ready.send(()).unwrap();
        let mut buffer = [0; 16];
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        while let Ok((_, client)) = uninterrupted(|| socket.recv_from(&mut buffer)) {
            socket.send_to(id.as_bytes(), client).unwrap();
        }
    });
    is_ready.recv().unwrap();
}

/// Who answers a datagram; nobody within half a second is the empty string.
fn asked(socket: &UdpSocket, to: &str) -> String {
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.send_to(b"?", to.parse::<SocketAddr>().unwrap()).unwrap();
    let mut buffer = [0; 16];
    // A refusal (ICMP) is reported by the first call, and an answer to a datagram before may come late.
    let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap_or_default();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// Another machine, `192.168.7.2`, joined to the host (`192.168.7.1`) by a cable.
struct Neighbour(String);

impl Neighbour {
    fn new(rig: &Rig, name: &str) -> Self {
        let name = format!("bulkhead-test-{name}-{}", std::process::id());
        rig.run("ip", &["netns", "add", &name]);
        rig.run("ip", &["link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", &name]);
        rig.run("ip", &["addr", "add", "192.168.7.1/24", "dev", "lan"]);
        rig.run("ip", &["link", "set", "lan", "up"]);
        rig.run("ip", &["-n", &name, "addr", "add", "192.168.7.2/24", "dev", "eth0"]);
        rig.run("ip", &["-n", &name, "link", "set", "eth0", "up"]);
        Self(name)
    }

    fn does(&self, rig: &Rig, args: &[&str]) -> String {
        let output = rig.output("ip", &[&["netns", "exec", &self.0], args].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn datagrams_follow_the_container_that_has_the_port_now() {
    let rig = Rig::new();
    rig.up(&["c0"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = "127.0.0.1:9000";
    assert_eq!(asked(&socket, to), "");
    for id in ["one", "two"] {
        rig.up(&[id, "-p", "9000:5353/udp"]);
        echo(&rig, id, 5353);
        let same_socket = asked(&socket, to);
        assert_eq!(if same_socket.is_empty() { asked(&socket, to) } else { same_socket }, id);
        rig.ok(&["down", "--wait", id]);
    }
}

#[test]
fn sctp_ports_are_in_the_map() {
    let rig = Rig::new();
    rig.up(&["c1", "-p", "9000:5000/sctp"]);
    let map = rig.run("nft", &["list", "map", "ip", "bulkhead", "published"]);
    assert!(map.contains("sctp . 9000 : 10.90.0.2 . 5000"), "{map}");
    rig.ok(&["down", "--wait", "c1"]);
    assert_eq!(rig.left(), "");
}

#[test]
fn a_published_name_server_gets_no_questions_of_its_neighbours() {
    let rig = Rig::new();
    rig.up(&["dns", "-p", "53:53/udp", "-p", "53:53"]);
    rig.up(&["web", "--name", "web"]);
    echo(&rig, "dns", 53);
    let answer = rig.inside("web", &["busybox", "nslookup", "web", "10.90.0.1"]);
    assert!(answer.contains("Address: 10.90.0.3"), "{answer}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(asked(&socket, "127.0.0.1:53"), "dns", "the host's port is the container's");
}

#[test]
fn another_machine_reaches_published_ports_only() {
    let mut rig = Rig::new();
    let far = Neighbour::new(&rig, "far");
    rig.up(&["c1", "-p", "8080:80", "-p", "127.0.0.1:8081:80", "-p", "9000:5353/udp"]);
    rig.serve("c1", "hello");
    assert_eq!(far.does(&rig, &["curl", "-sm2", "192.168.7.1:8080"]), "hello");
    assert_eq!(far.does(&rig, &["curl", "-sm1", "192.168.7.1:8081"]), "", "published on 127.0.0.1 only");
    far.does(&rig, &["ip", "route", "add", "10.90.0.0/16", "via", "192.168.7.1"]);
    assert_eq!(far.does(&rig, &["curl", "-sm1", "10.90.0.2"]), "", "not published");
    // The guard: nobody outside reaches the loopback address behind route_localnet.
    far.does(&rig, &["ip", "route", "add", "127.0.0.1", "via", "192.168.7.1", "table", "local"]);
    assert_eq!(far.does(&rig, &["curl", "-sm1", "192.168.7.1:8081"]), "");
}

#[test]
fn containers_that_may_not_talk_do_so_through_ports_only() {
    let mut rig = Rig::new();
    // Where br_netfilter is loaded and on, a bridge drops between isolated ports what the rules have sent there.
    let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
    rig.ok(&["create", "--subnet", "10.7.0.0/24", "-o", "icc=false", "-o", "mtu=1400", "quiet"]);
    rig.up(&["c1", "--network", "quiet", "-p", "8080:80"]);
    rig.up(&["c2", "--network", "quiet"]);
    rig.serve("c1", "hello");
    assert!(rig.inside("c2", &["ip", "link", "show", "eth0"]).contains("mtu 1400"));
    assert!(rig.run("ip", &["link", "show", "type", "bridge"]).contains("mtu 1400"));
    assert!(!rig.inside("c2", &[&PING[..], &["10.7.0.2"]].concat()).contains("1 packets received"));
    assert_eq!(rig.inside("c2", &["curl", "-sm1", "10.7.0.2"]), "");
    assert!(rig.inside("c2", &[&PING[..], &["10.7.0.1"]].concat()).contains("1 packets received"));
    assert_eq!(rig.inside("c2", &["curl", "-sm2", "10.7.0.1:8080"]), "hello");
}

#[test]
fn a_neighbour_asks_by_ipv6_through_the_published_port() {
    let mut rig = Rig::new();
    rig.ok(&["create", "--subnet", "10.7.0.0/24", "--subnet", "fd07::/64", "dual"]);
    rig.up(&["c1", "--network", "dual", "-p", "8080:80"]);
    rig.up(&["c2", "--network", "dual"]);
    rig.serve("c1", "six");
    for id in ["c2", "c1"] {
        assert_eq!(rig.inside(id, &["curl", "-sm3", "http://[fd07::1]:8080/"]), "six", "from {id}");
    }
}

#[test]
fn macvlans_are_on_the_wire_of_their_parent() {
    let rig = Rig::new();
    let far = Neighbour::new(&rig, "wire");
    rig.ok(&[
        "create",
        "-d",
        "macvlan",
        "-o",
        "parent=lan",
        "-o",
        "mtu=1300",
        "--subnet",
        "192.168.7.0/24",
        "--gateway",
        "192.168.7.2",
        "--ip-range",
        "192.168.7.128/25",
        "wire",
    ]);
    let status = rig.up(&["c1", "--network", "wire"]);
    assert_eq!(status["networks"]["wire"]["address"], "192.168.7.128/24");
    rig.up(&["c2", "--network", "wire"]);
    assert!(rig.inside("c1", &["ip", "link", "show", "eth0"]).contains("mtu 1300"));
    for to in ["192.168.7.129", "192.168.7.2"] {
        let answer = rig.inside("c1", &[&PING[..], &[to]].concat());
        assert!(answer.contains("1 packets received"), "{to}: {answer}");
    }
    let answer = far.does(&rig, &[&PING[..], &["192.168.7.128"]].concat());
    assert!(answer.contains("1 packets received"), "{answer}");
    rig.ok(&["down", "c1"]);
    rig.ok(&["down", "c2"]);
    until("the links are gone", || !rig.run("ip", &["-br", "link"]).contains("eth0@lan"));
    assert!(rig.run("ip", &["-br", "link"]).contains("lan@"), "the parent stays");
}
