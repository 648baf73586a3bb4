//! What stands between a client and a registry: a relay that can hold its breath, and an HTTP proxy.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Passes connections on to a registry, and no PATCH request more than it may.
pub struct Relay {
    pub host: String,
    inner: Arc<Inner>,
}

struct Inner {
    target: String,
    patches: AtomicUsize,
    most: AtomicUsize,
    held: AtomicBool,
    bytes: AtomicU64,
}

impl Relay {
    /// Before `target`; all requests after `most` PATCHes get nowhere.
    pub fn start(target: &str, most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Inner {
            target: target.into(),
            patches: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            held: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        });
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let inner = Arc::clone(&shared);
                std::thread::spawn(move || inner.pass(client));
            }
        });
        Self { host, inner }
    }

    /// Waits until a request is held.
    pub fn await_held(&self) {
        let end = Instant::now() + Duration::from_secs(120);
        while !self.inner.held.load(Ordering::SeqCst) {
            assert!(Instant::now() < end, "no request was held");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Lets everything pass from now on.
    pub fn release(&self) {
        self.inner.most.store(usize::MAX, Ordering::SeqCst);
    }

    /// How many bytes went to the registry.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes.load(Ordering::SeqCst)
    }
}

impl Inner {
    fn pass(&self, mut client: TcpStream) {
        let mut server = TcpStream::connect(&self.target).unwrap();
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || io::copy(&mut from, &mut to));
        let mut block = vec![0; 64 << 10];
        // Whoever is gone is the case's business. A request begins with a block: its client waited for the answer before.
        while let Ok(count @ 1..) = client.read(&mut block) {
            if block.starts_with(b"PATCH ")
                && self.patches.fetch_add(1, Ordering::SeqCst) >= self.most.load(Ordering::SeqCst)
            {
                self.held.store(true, Ordering::SeqCst);
                // Until its client is gone.
                while matches!(client.read(&mut block), Ok(1..)) {}
                return;
            }
            if server.write_all(&block[..count]).is_err() {
                return;
            }
            self.bytes.fetch_add(count as u64, Ordering::SeqCst);
        }
    }
}

/// An HTTP proxy that knows CONNECT and leads all names to one registry.
pub struct Proxy {
    pub host: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Whatever is asked for, `target` answers.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (shared, target) = (Arc::clone(&log), target.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (log, target) = (Arc::clone(&shared), target.clone());
                std::thread::spawn(move || connect(client, &target, &log));
            }
        });
        Self { host, log }
    }

    /// The heads of all requests.
    pub fn asked(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

fn connect(mut client: TcpStream, target: &str, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).is_ok_and(|count| count == 0) {
            return;
        }
    }
    log.lock().unwrap().push(head.clone());
    if !head.starts_with("CONNECT ") {
        let _ = client.write_all(b"HTTP/1.1 405 CONNECT only\r\ncontent-length: 0\r\n\r\n");
        return;
    }
    let mut server = TcpStream::connect(target).unwrap();
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let _ = io::copy(&mut reader, &mut server);
    let _ = server.shutdown(std::net::Shutdown::Both);
}
