//! `netctl dns`: the server of all networks, asked by real datagrams and connections. Every test has a loopback address
//! of its own to serve on; who asks may choose another one, as a container would have.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sys::retry::uninterrupted;

use super::rig::until;

const A: u16 = 1;
const AAAA: u16 = 28;

struct Server {
    _dir: tempfile::TempDir,
    /// The directory of zone files.
    zones: PathBuf,
    address: &'static str,
    process: Child,
}

impl Server {
    fn start(address: &'static str, zone: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let zones = dir.path().join("dns");
        std::fs::create_dir(&zones).unwrap();
        std::fs::write(zones.join("net"), zone).unwrap();
        let (process, said) = spawn(&zones);
        assert_eq!(said, "ready");
        Self { _dir: dir, zones, address, process }
    }

    fn replace(&self, zone: &str) {
        self.write("net", zone);
    }

    fn write(&self, network: &str, zone: &str) {
        let temporary = self.zones.join("new.tmp");
        std::fs::write(&temporary, zone).unwrap();
        std::fs::rename(temporary, self.zones.join(network)).unwrap();
    }

    fn ask(&self, name: &str, kind: u16) -> Reply {
        self.ask_from("127.0.0.1", name, kind)
    }

    fn ask_from(&self, client: &str, name: &str, kind: u16) -> Reply {
        ask_at(self.address, client, name, kind)
    }

    fn ask_by_stream(&self, name: &str, kind: u16) -> Reply {
        let mut stream = TcpStream::connect((self.address, 53)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let message = question(name, kind);
        stream.write_all(&u16::try_from(message.len()).unwrap().to_be_bytes()).unwrap();
        stream.write_all(&message).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).unwrap();
        Reply(reply)
    }

    fn ended_within(&mut self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if self.process.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Reply(Vec<u8>);

impl Reply {
    fn code(&self) -> u8 {
        self.0[3] & 15
    }
    fn count(&self) -> u8 {
        self.0[7]
    }
    fn last_address(&self) -> IpAddr {
        let octets: [u8; 4] = self.0[self.0.len() - 4..].try_into().unwrap();
        octets.into()
    }
}

/// One datagram.
fn receive(socket: &UdpSocket) -> Reply {
    let mut buffer = [0; 4096];
    let length = uninterrupted(|| socket.recv(&mut buffer)).unwrap();
    Reply(buffer[..length].to_vec())
}

fn ask_at(server: &str, client: &str, name: &str, kind: u16) -> Reply {
    let socket = UdpSocket::bind((client, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(&question(name, kind), (server, 53)).unwrap();
    receive(&socket)
}

fn spawn(zones: &Path) -> (Child, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_netctl"))
        .arg("dns")
        .arg(zones)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
    (process, said.trim_end().to_owned())
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

fn zone(listen: &str, upstream: &str, name: &str, address: &str) -> String {
    format!("{listen} {upstream}\nx {address}  {name}\n")
}

#[test]
fn names_are_answered_and_a_new_zone_is_seen() {
    let server = Server::start("127.1.0.1", &zone("127.1.0.1", "", "web", "10.0.0.2"));
    assert_eq!(server.ask("WEB", A).last_address(), IpAddr::from([10, 0, 0, 2]));
    assert_eq!(server.ask_by_stream("web", A).last_address(), IpAddr::from([10, 0, 0, 2]));
    assert_eq!((server.ask("web", AAAA).code(), server.ask("web", AAAA).count()), (0, 0));
    server.replace(&zone("127.1.0.1", "", "web", "10.0.0.3"));
    let end = Instant::now() + Duration::from_secs(10);
    while server.ask("web", A).last_address() != IpAddr::from([10, 0, 0, 3]) {
        assert!(Instant::now() < end, "the new zone was never seen");
    }
}

#[test]
fn other_names_are_asked_upstream_by_datagram_and_by_stream() {
    let _upstream = Server::start("127.2.0.2", &zone("127.2.0.2", "", "example.org", "192.0.2.7"));
    // The first server of the two is dead: the second is asked after the first had its time.
    let own = zone("127.2.0.1", "127.2.0.2", "web", "10.0.0.2");
    let server = Server::start("127.2.0.1", &own);
    assert_eq!(server.ask("example.org", A).last_address(), IpAddr::from([192, 0, 2, 7]));
    assert_eq!(server.ask_by_stream("example.org", A).last_address(), IpAddr::from([192, 0, 2, 7]));
}

#[test]
fn a_dead_upstream_is_skipped_or_reported() {
    let _upstream = Server::start("127.3.0.2", &zone("127.3.0.2", "", "example.org", "192.0.2.7"));
    let own = zone("127.3.0.1", "127.3.0.9,127.3.0.2", "web", "10.0.0.2");
    let server = Server::start("127.3.0.1", &own);
    assert_eq!(server.ask("example.org", A).last_address(), IpAddr::from([192, 0, 2, 7]));
    assert_eq!(server.ask_by_stream("example.org", A).last_address(), IpAddr::from([192, 0, 2, 7]));
    server.replace(&zone("127.3.0.1", "127.3.0.9", "web", "10.0.0.2"));
    // Until the change is seen, the second one asks this machine's own servers.
    until("nobody is left to ask", || server.ask("example.com", A).code() == 2);
}

#[test]
fn malformed_packets_hurt_nobody() {
    let server = Server::start("127.4.0.1", &zone("127.4.0.1", "", "web", "10.0.0.2"));
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let good = question("web", A);
    for length in 0..good.len() {
        socket.send_to(&good[..length], ("127.4.0.1", 53)).unwrap();
    }
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0xff;
        socket.send_to(&bad, ("127.4.0.1", 53)).unwrap();
    }
    let mut stream = TcpStream::connect(("127.4.0.1", 53)).unwrap();
    let _ = stream.write_all(&[0xff; 200_000]);
    assert_eq!(server.ask("web", A).last_address(), IpAddr::from([10, 0, 0, 2]));
}

#[test]
fn it_ends_when_unused_and_a_second_one_leaves_the_first_alone() {
    let mut server = Server::start("127.5.0.1", &zone("127.5.0.1", "", "web", "10.0.0.2"));
    let (mut second, said) = spawn(&server.zones);
    assert_eq!(said, "ready", "somebody serves");
    assert!(second.wait().unwrap().success());
    assert_eq!(server.ask("web", A).code(), 0);
    std::fs::remove_file(server.zones.join("net")).unwrap();
    assert!(server.ended_within(Duration::from_secs(10)), "still there without containers");
    assert!(!server.zones.with_extension("pid").exists());
}

#[test]
fn an_address_that_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    // Beside the zones lie the server's own files.
    let zones = dir.path().join("dns");
    std::fs::create_dir(&zones).unwrap();
    std::fs::write(zones.join("net"), zone("192.0.2.1", "", "web", "10.0.0.2")).unwrap();
    let (mut process, said) = spawn(&zones);
    assert!(said.contains("listen on 192.0.2.1 port 53"), "{said}");
    assert!(!process.wait().unwrap().success());
}

#[test]
fn networks_come_and_go_and_a_container_sees_all_of_its_own() {
    let server = Server::start("127.6.0.1", "127.6.0.1\na 127.6.0.2  a\nboth 127.6.0.3  both\n");
    server.write("two%int", "127.6.1.1\nboth 127.6.1.3  both\ndb 127.6.1.4  db\n");
    until("the second network is served", || UdpSocket::bind(("127.6.1.1", 53)).is_err());
    until("its names are known", || ask_at("127.6.1.1", "127.6.1.4", "both", A).count() == 1);
    assert_eq!(ask_at("127.6.1.1", "127.6.1.4", "a", A).code(), 3, "an internal network, and another's name");
    assert_eq!(
        server.ask_from("127.6.0.3", "db", A).last_address(),
        IpAddr::from([127, 6, 1, 4]),
        "it is on both"
    );
    assert_eq!(server.ask_from("127.6.0.3", "both", A).count(), 2);
    assert_eq!(server.ask_from("127.6.0.2", "both", A).count(), 1);
    assert_eq!(ask_at("127.6.1.1", "127.6.1.4", "4.1.6.127.in-addr.arpa", 12).count(), 1);
    std::fs::remove_file(server.zones.join("two%int")).unwrap();
    until("its address is free again", || UdpSocket::bind(("127.6.1.1", 53)).is_ok());
    assert_eq!(server.ask_from("127.6.0.3", "a", A).count(), 1);
}

#[test]
fn a_slow_upstream_keeps_nobody_waiting() {
    let silent = UdpSocket::bind(("127.7.0.9", 53)).unwrap();
    let server = Server::start("127.7.0.1", &zone("127.7.0.1", "127.7.0.9", "web", "10.0.0.2"));
    let patient = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    for number in 0..200 {
        patient.send_to(&question(&format!("n{number}.example.org"), A), ("127.7.0.1", 53)).unwrap();
    }
    let mut buffer = [0; 512];
    silent.recv_from(&mut buffer).unwrap();
    let start = Instant::now();
    assert_eq!(server.ask("web", A).count(), 1);
    assert!(start.elapsed() < Duration::from_secs(2), "before any of the others is given up");
    assert_eq!(server.ask_by_stream("web", A).count(), 1);
}

#[test]
fn long_answers_are_cut_for_datagrams_and_whole_by_stream() {
    let mut text = String::from("127.8.0.1\n");
    for number in 1..=200 {
        text += &format!("c{number} 10.0.0.{number} fd00::{number:x} many,c{number}\n");
    }
    let server = Server::start("127.8.0.1", &text);
    let short = server.ask("many", A);
    assert!(short.0.len() <= 512 && short.0[2] & 2 != 0, "cut, and marked as such");
    assert_eq!(server.ask_by_stream("many", A).count(), 200);
    assert_eq!(server.ask_by_stream("many", AAAA).count(), 200);
}

#[test]
fn aardvark_dns_goes_to_the_background_and_leaves_with_its_last_zone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("podman1"), "127.9.0.1\nabc 127.9.0.2  web,alias\n").unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netctl"));
        command.arg("aardvark-dns").arg("--config").arg(dir.path()).args(["-p", "5399", "run"]);
        command.stdin(Stdio::null()).output().unwrap()
    };
    let started = run();
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    let pid = std::fs::read_to_string(dir.path().join("aardvark.pid")).unwrap();
    let second = run();
    assert!(second.status.success(), "somebody serves");
    assert_eq!(std::fs::read_to_string(dir.path().join("aardvark.pid")).unwrap(), pid);
    let ask = |name: &str| {
        let socket = UdpSocket::bind(("127.9.0.2", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(&question(name, A), ("127.9.0.1", 5399)).unwrap();
        receive(&socket)
    };
    assert_eq!((ask("web").count(), ask("Alias.dns.podman").count()), (1, 1));
    assert_eq!(ask("nosuch.dns.podman").code(), 3, "nobody else is asked");
    // As netavark changes it: in place, and a signal.
    std::fs::write(dir.path().join("podman1"), "127.9.0.1\nabc 127.9.0.2  web\nd 127.9.0.3  db\n").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.parse().unwrap()), nix::sys::signal::SIGHUP)
        .unwrap();
    until("the change is seen", || ask("db").count() == 1);
    std::fs::remove_file(dir.path().join("podman1")).unwrap();
    until("it ends", || !Path::new(&format!("/proc/{pid}/exe")).exists());
    assert!(!dir.path().join("aardvark.pid").exists());
}
