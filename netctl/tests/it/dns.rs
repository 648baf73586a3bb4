//! `netctl dns`: the server of one network, asked by real datagrams and connections. Every test has a loopback address
//! of its own to serve on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const A: u16 = 1;
const AAAA: u16 = 28;

struct Server {
    _dir: tempfile::TempDir,
    file: PathBuf,
    address: &'static str,
    process: Child,
}

impl Server {
    fn start(address: &'static str, zone: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("net.json");
        std::fs::write(&file, zone).unwrap();
        let (process, said) = spawn(&file);
        assert_eq!(said, "ready");
        Self { _dir: dir, file, address, process }
    }

    fn replace(&self, zone: &str) {
        let temporary = self.file.with_extension("new");
        std::fs::write(&temporary, zone).unwrap();
        std::fs::rename(temporary, &self.file).unwrap();
    }

    fn ask(&self, name: &str, kind: u16) -> Reply {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send_to(&question(name, kind), (self.address, 53)).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        Reply(buffer[..length].to_vec())
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

fn spawn(file: &Path) -> (Child, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_netctl"))
        .arg("dns")
        .arg(file)
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
    let upstream = if upstream.is_empty() { String::new() } else { format!("\"{upstream}\"") };
    format!(
        r#"{{"version":1,"listen":["{listen}"],"upstream":[{upstream}],"entries":[{{"id":"x","names":["{name}"],"addresses":["{address}"]}}]}}"#
    )
}

#[test]
fn names_are_answered_and_a_new_zone_is_seen() {
    let server = Server::start("127.1.0.1", &zone("127.1.0.1", "", "web", "10.0.0.2"));
    assert_eq!(server.ask("WEB", A).last_address(), IpAddr::from([10, 0, 0, 2]));
    assert_eq!(server.ask_by_stream("web", A).last_address(), IpAddr::from([10, 0, 0, 2]));
    assert_eq!((server.ask("web", AAAA).code(), server.ask("web", AAAA).count()), (0, 0));
    assert_eq!(server.ask("other", A).code(), 2, "nobody to ask");
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
    let own = zone("127.3.0.1", r#"127.3.0.9","127.3.0.2"#, "web", "10.0.0.2");
    let server = Server::start("127.3.0.1", &own);
    assert_eq!(server.ask("example.org", A).last_address(), IpAddr::from([192, 0, 2, 7]));
    assert_eq!(server.ask_by_stream("example.org", A).last_address(), IpAddr::from([192, 0, 2, 7]));
    server.replace(&zone("127.3.0.1", "127.3.0.9", "web", "10.0.0.2"));
    assert_eq!(server.ask("example.com", A).code(), 2);
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
    let (mut second, said) = spawn(&server.file);
    assert_eq!(said, "ready", "somebody serves");
    assert!(second.wait().unwrap().success());
    assert_eq!(server.ask("web", A).code(), 0);
    server.replace(r#"{"version":1,"listen":["127.5.0.1"],"entries":[]}"#);
    assert!(server.ended_within(Duration::from_secs(10)), "still there without containers");
    assert!(!server.file.with_extension("json.pid").exists());
}

#[test]
fn an_address_that_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("net.json");
    std::fs::write(&file, zone("192.0.2.1", "", "web", "10.0.0.2")).unwrap();
    let (mut process, said) = spawn(&file);
    assert!(said.contains("listen on 192.0.2.1 port 53"), "{said}");
    assert!(!process.wait().unwrap().success());
}
