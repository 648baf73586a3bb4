//! The server's one loop: control messages, queries, answers from elsewhere. One thread, no blocking call but `poll`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::seqpacket;

use super::client::Stream;
use super::forward::{Asker, Forward, MOST, Progress};
use super::start::{OK, SOCKET};
use super::wire;
use super::zone::Zones;
use crate::attach::files::host_resolver;

/// How many TCP clients are served at a time.
const STREAMS: usize = 64;
/// How many datagrams are answered before anything else gets its turn.
const BURST: usize = 64;
/// How often to look whether the state directory is still there, in milliseconds.
const CHECK: u16 = 60_000;

/// One address of one network.
struct Listener {
    network: String,
    address: IpAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// All that the server has.
pub struct Server {
    dir: PathBuf,
    control: OwnedFd,
    zones: Zones,
    listeners: BTreeMap<usize, Listener>,
    streams: BTreeMap<u64, (usize, Stream)>,
    forwards: Vec<Forward>,
    next: u64,
}

impl Server {
    /// Listens on the control socket and on the gateways of all networks in `dir` (`STATE/net`).
    ///
    /// # Errors
    /// An address is taken.
    pub fn new(dir: PathBuf) -> Result<Self> {
        // A socket left by a killed server is replaced. There is one server only: it is started under the lock, and
        // only where nobody answered.
        let control = seqpacket::listen(&dir, SOCKET)
            .with_context(|| format!("listen on {}", dir.join(SOCKET).display()))?;
        let mut server = Self {
            dir,
            control,
            zones: Zones::default(),
            listeners: BTreeMap::new(),
            streams: BTreeMap::new(),
            forwards: Vec::new(),
            next: 0,
        };
        server.reload("")?;
        Ok(server)
    }

    fn reload(&mut self, id: &str) -> Result<()> {
        self.zones.reload(&self.dir.join("members"), id);
        let mut wanted: Vec<(String, IpAddr)> = Vec::new();
        for (network, zone) in self.zones.iter() {
            wanted.extend(zone.server.listen.iter().map(|address| (network.clone(), *address)));
        }
        self.listeners.retain(|_, old| wanted.iter().any(|(net, at)| *net == old.network && *at == old.address));
        for (network, address) in wanted {
            if !self.listeners.values().any(|old| old.network == network && old.address == address) {
                let listener = open(network, address)
                    .with_context(|| format!("answer names on {}", SocketAddr::new(address, 53)))?;
                self.next += 1;
                self.listeners.insert(usize::try_from(self.next)?, listener);
            }
        }
        Ok(())
    }

    /// Serves until there is no network left.
    ///
    /// # Errors
    /// `poll(2)` fails.
    pub fn run(mut self) -> Result<()> {
        while !self.zones.is_empty() {
            let (ready, count) = self.wait()?;
            if count == 0 && self.forwards.is_empty() && self.streams.is_empty() {
                // Somebody may have removed the state directory without a word.
                self.zones.reload(&self.dir.join("members"), "");
            }
            let mut ready = ready.into_iter();
            let control = ready.next().unwrap_or(false);
            let numbers: Vec<usize> = self.listeners.keys().copied().collect();
            let listening: Vec<(usize, bool, bool)> = numbers
                .into_iter()
                .map(|number| (number, ready.next().unwrap_or(false), ready.next().unwrap_or(false)))
                .collect();
            let streams: Vec<(u64, bool)> =
                self.streams.keys().copied().map(|number| (number, ready.next().unwrap_or(false))).collect();
            let forwards: Vec<bool> = ready.collect();
            // First: a container that `up` has just announced may be asked for in this very round.
            if control {
                self.control();
            }
            self.answers(&forwards);
            for (number, udp, tcp) in listening {
                if udp {
                    self.datagrams(number);
                }
                if tcp {
                    self.connection(number);
                }
            }
            for (number, ready) in streams {
                self.stream(number, ready);
            }
        }
        // The addresses before the control socket: who is told that we are gone may take them at once.
        self.listeners.clear();
        Ok(())
    }

    fn wait(&self) -> Result<(Vec<bool>, i32)> {
        let input = PollFlags::POLLIN;
        let output = |wanted| if wanted { input | PollFlags::POLLOUT } else { input };
        let mut fds = vec![PollFd::new(self.control.as_fd(), input)];
        for listener in self.listeners.values() {
            fds.push(PollFd::new(listener.udp.as_fd(), input));
            fds.push(PollFd::new(listener.tcp.as_fd(), input));
        }
        for (_, stream) in self.streams.values() {
            fds.push(PollFd::new(stream.socket.as_fd(), output(stream.wants_to_write())));
        }
        for forward in &self.forwards {
            fds.push(PollFd::new(forward.fd(), output(forward.wants_to_write())));
        }
        let idle = self.forwards.is_empty() && self.streams.is_empty();
        let timeout = PollTimeout::from(if idle { CHECK } else { 500 });
        let count = match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other.context("wait for queries")?,
        };
        let ready = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
        Ok((ready, count))
    }

    fn control(&mut self) {
        while let Ok(Some(fd)) = seqpacket::accept(&self.control) {
            let mut buffer = [0; 256];
            // The sender writes right after it connected; a silent one must not stop us for long.
            let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
            if poll(&mut polled, PollTimeout::from(200u8)) != Ok(1) {
                continue;
            }
            let Ok(length) = seqpacket::receive(&fd, &mut buffer) else { continue };
            let id = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let answer = match self.reload(&id) {
                Ok(()) => OK.to_owned(),
                Err(err) => contracts::report::one_line(&err),
            };
            let _ = seqpacket::send(&fd, answer.as_bytes());
        }
    }

    fn datagrams(&mut self, number: usize) {
        let mut buffer = [0; 4096];
        for _ in 0..BURST {
            let Some(listener) = self.listeners.get(&number) else { return };
            let Ok((length, peer)) = listener.udp.recv_from(&mut buffer) else { return };
            let asker = Asker::Udp(number, peer);
            if let Some(answer) = self.answer(number, peer.ip(), asker, &buffer[..length]) {
                self.deliver(asker, &answer);
            }
        }
    }

    fn connection(&mut self, number: usize) {
        let Some(listener) = self.listeners.get(&number) else { return };
        let Ok((socket, peer)) = listener.tcp.accept() else { return };
        if self.streams.len() < STREAMS && socket.set_nonblocking(true).is_ok() {
            self.next += 1;
            self.streams.insert(self.next, (number, Stream::new(socket, peer.ip(), None)));
        }
    }

    fn stream(&mut self, key: u64, ready: bool) {
        let Some((number, stream)) = self.streams.get_mut(&key) else { return };
        let (number, peer) = (*number, stream.peer);
        let messages = if ready { stream.receive() } else { Vec::new() };
        for message in messages {
            if let Some(answer) = self.answer(number, peer, Asker::Tcp(key), &message) {
                self.deliver(Asker::Tcp(key), &answer);
            }
        }
        if let Some((_, stream)) = self.streams.get_mut(&key) {
            stream.flush();
            if stream.is_over() {
                self.streams.remove(&key);
            }
        }
    }

    /// The answer to a query, or `None` where it comes later or never.
    fn answer(&mut self, number: usize, client: IpAddr, asker: Asker, message: &[u8]) -> Option<Vec<u8>> {
        let network = self.listeners.get(&number)?.network.clone();
        let udp = matches!(asker, Asker::Udp(..));
        let question = match wire::query(message) {
            Ok(question) => question,
            Err(code) => return code.map(|code| wire::refusal(message, None, code)),
        };
        if question.kind == wire::PTR {
            let address = wire::reverse(&question.name);
            let name = address.and_then(|address| self.zones.name(&network, client, address));
            if let Some(name) = name {
                return Some(wire::pointer(message, &question, name, udp));
            }
        } else if let Some(found) = self.zones.addresses(&network, client, &question.name) {
            return Some(wire::addresses(message, &question, &found, udp));
        }
        let Some(servers) = self.zones.servers(&network, client) else {
            return Some(wire::refusal(message, Some(&question), wire::NO_SUCH_NAME));
        };
        let servers = if servers.is_empty() { host_resolver().servers } else { servers.to_vec() };
        if self.forwards.len() < MOST
            && let Some(forward) = Forward::new(asker, message.to_vec(), &servers)
        {
            self.forwards.push(forward);
            return None;
        }
        Some(wire::refusal(message, Some(&question), wire::SERVER_FAILURE))
    }

    fn answers(&mut self, ready: &[bool]) {
        let waiting = std::mem::take(&mut self.forwards);
        for (at, mut forward) in waiting.into_iter().enumerate() {
            match forward.advance(ready.get(at).copied().unwrap_or(false)) {
                Progress::Waiting => self.forwards.push(forward),
                Progress::Answer(answer) => self.deliver(forward.asker, &answer),
                Progress::Failed => {
                    let question = wire::query(&forward.query).ok();
                    let answer = wire::refusal(&forward.query, question.as_ref(), wire::SERVER_FAILURE);
                    self.deliver(forward.asker, &answer);
                }
            }
        }
    }

    fn deliver(&mut self, asker: Asker, answer: &[u8]) {
        match asker {
            Asker::Udp(number, peer) => {
                if let Some(listener) = self.listeners.get(&number) {
                    // A client that has gone is nobody's concern.
                    let _ = listener.udp.send_to(answer, peer);
                }
            }
            Asker::Tcp(key) => {
                if let Some((_, stream)) = self.streams.get_mut(&key) {
                    stream.send(answer);
                    stream.flush();
                }
            }
        }
    }
}

fn open(network: String, address: IpAddr) -> std::io::Result<Listener> {
    let at = SocketAddr::new(address, 53);
    let udp = UdpSocket::bind(at)?;
    let tcp = TcpListener::bind(at)?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    Ok(Listener { network, address, udp, tcp })
}
