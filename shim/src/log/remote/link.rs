//! A connection that comes back: nothing here blocks, and a message counts as sent when it is sent whole (or, where the
//! receiver acknowledges, when it has).

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};

use super::address::Target;
use super::relay;

/// The longest wait between two attempts to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// The time a connection attempt has.
const CONNECT: Duration = Duration::from_secs(10);

/// Reads the chunks that a receiver acknowledges, and how many bytes of its words that took.
type Answers = fn(&[u8]) -> (Vec<String>, usize);

/// What is sent whole or again.
pub struct Message {
    pub bytes: Vec<u8>,
    /// What the receiver answers with, where it does.
    pub chunk: Option<String>,
}

/// How long a link tries.
#[derive(Debug, Clone)]
pub struct Patience {
    /// The wait before the first attempt to connect again; then it doubles.
    pub first_wait: Duration,
    /// Failures in a row after which the waiting messages are given up.
    pub attempts: Option<u32>,
    /// A receiver that takes nothing for so long is connected to anew.
    pub write: Option<Duration>,
    /// The same for one that does not answer.
    pub read: Option<Duration>,
    /// The age at which a connection is made anew.
    pub renew: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { first_wait: Duration::from_millis(100), attempts: None, write: None, read: None, renew: None }
    }
}

enum Channel {
    Datagram(UnixDatagram),
    Udp(UdpSocket),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Channel {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Datagram(socket) => socket.as_fd(),
            Self::Udp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Datagram(socket) => socket.send(bytes),
            // The error that a datagram meets is the one before's; and what cannot be delivered is lost, as UDP is.
            Self::Udp(socket) => match socket.send(bytes).or_else(|_| socket.send(bytes)) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => Err(err),
                _ => Ok(bytes.len()),
            },
            Self::Unix(socket) => socket.write(bytes),
            Self::Tcp(socket) => socket.write(bytes),
        }
    }

    /// Bytes that the receiver said; datagram sockets hear nothing.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Self::Datagram(_) | Self::Udp(_) => Ok(None),
            Self::Unix(socket) => socket.read(buffer).map(Some),
            Self::Tcp(socket) => socket.read(buffer).map(Some),
        }
    }

    fn is_stream(&self) -> bool {
        matches!(self, Self::Unix(_) | Self::Tcp(_))
    }
}

enum State {
    Up { channel: Channel, since: Instant, stalled: Option<Instant> },
    Connecting { socket: OwnedFd, until: Instant },
    Down { again: Instant },
}

/// A connection to a receiver.
pub struct Link {
    target: Target,
    patience: Patience,
    epoll: Epoll,
    state: State,
    /// Bytes of the first message that went already.
    sent: usize,
    /// Sent, not acknowledged.
    waiting: VecDeque<Message>,
    oldest: Option<Instant>,
    /// What the receiver said and is no whole answer yet.
    said: Vec<u8>,
    answers: Option<Answers>,
    failures: u32,
    next_address: usize,
}

impl Link {
    /// Connects. With `later` a receiver that is not there is only tried again.
    pub fn open(target: Target, patience: Patience, later: bool) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        let mut link = Self {
            target,
            patience,
            epoll,
            state: State::Down { again: Instant::now() },
            sent: 0,
            waiting: VecDeque::new(),
            oldest: None,
            said: Vec::new(),
            answers: None,
            failures: 0,
            next_address: 0,
        };
        match link.connect_now() {
            Ok(channel) => link.up(channel)?,
            Err(err) if !later => return Err(err),
            Err(_) => link.down(),
        }
        Ok(link)
    }

    /// The receiver acknowledges; `answers` reads how.
    pub fn acknowledged(&mut self, answers: Answers) {
        self.answers = Some(answers);
    }

    pub fn watched(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Bytes sent and not acknowledged.
    pub fn unanswered(&self) -> usize {
        self.waiting.iter().map(|message| message.bytes.len()).sum()
    }

    /// When to look again although nothing was heard.
    pub fn deadline(&self, queued: bool) -> Option<Instant> {
        match &self.state {
            State::Down { again } => (queued || !self.waiting.is_empty()).then_some(*again),
            State::Connecting { until, .. } => Some(*until),
            State::Up { channel, stalled, .. } => {
                let write = stalled.map(|at| {
                    // A datagram receiver that makes room is not always heard of.
                    let look = if channel.is_stream() { self.patience.write } else { None };
                    at + look.unwrap_or(if channel.is_stream() { CONNECT } else { Duration::from_millis(50) })
                });
                let read = self.oldest.and_then(|at| self.patience.read.map(|wait| at + wait));
                [write, read].into_iter().flatten().min()
            }
        }
    }

    /// Sends what can be sent of `queue` now. True where the receiver was tried often enough: the queue is given up.
    pub fn pump(&mut self, queue: &mut VecDeque<Message>) -> bool {
        self.hear(queue);
        loop {
            let now = Instant::now();
            match &mut self.state {
                State::Down { again } if *again > now || (queue.is_empty() && self.waiting.is_empty()) => {
                    return false;
                }
                State::Down { .. } if self.patience.attempts.is_some_and(|most| self.failures > most) => {
                    self.failures = 0;
                    self.waiting.clear();
                    return true;
                }
                State::Down { .. } => {
                    if self.begin().is_err() {
                        self.lost(queue);
                    }
                }
                State::Connecting { until, .. } if *until > now => return false,
                State::Connecting { .. } => self.lost(queue),
                State::Up { channel, since, stalled } => {
                    if self.sent == 0 && self.patience.renew.is_some_and(|age| since.elapsed() > age) {
                        self.lost(queue);
                        self.failures = 0;
                        self.state = State::Down { again: now };
                        continue;
                    }
                    let Some(front) = queue.front() else {
                        *stalled = None;
                        interest(&self.epoll, channel.fd(), false);
                        return false;
                    };
                    match channel.send(&front.bytes[self.sent..]) {
                        Ok(length) => {
                            *stalled = None;
                            self.failures = 0;
                            self.sent += length;
                            if self.sent >= front.bytes.len() {
                                self.sent = 0;
                                let message = queue.pop_front();
                                if let (Some(message), true) = (message, self.answers.is_some()) {
                                    self.oldest.get_or_insert(now);
                                    self.waiting.push_back(message);
                                }
                            }
                        }
                        Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                        Err(err)
                            if err.kind() == io::ErrorKind::WouldBlock
                                || err.raw_os_error() == Some(libc::ENOBUFS) =>
                        {
                            let waits = stalled.get_or_insert(now).elapsed();
                            interest(&self.epoll, channel.fd(), true);
                            if !channel.is_stream() {
                                *stalled = Some(now);
                            } else if self.patience.write.is_some_and(|most| waits >= most) {
                                self.lost(queue);
                                continue;
                            }
                            return false;
                        }
                        // No receiver will ever take this one.
                        Err(err) if err.raw_os_error() == Some(libc::EMSGSIZE) => {
                            self.sent = 0;
                            queue.pop_front();
                        }
                        Err(_) => self.lost(queue),
                    }
                }
            }
        }
    }

    /// What happened on the socket: connected, answered, gone.
    fn hear(&mut self, queue: &mut VecDeque<Message>) {
        if let State::Connecting { socket, .. } = &self.state {
            let mut events = [EpollEvent::empty(); 1];
            if self.epoll.wait(&mut events, 0_u8).unwrap_or(0) == 0 {
                return;
            }
            let Ok(copy) = socket.try_clone() else { return self.lost(queue) };
            let channel = if let Target::Tls(_) = self.target {
                let socket = UnixStream::from(copy);
                relay::connected(&socket).then_some(Channel::Unix(socket))
            } else {
                let error = socket::getsockopt(socket, socket::sockopt::SocketError);
                error.is_ok_and(|error| error == 0).then(|| Channel::Tcp(TcpStream::from(copy)))
            };
            let _ = self.epoll.delete(socket);
            if channel.is_none_or(|channel| self.up(channel).is_err()) {
                self.lost(queue);
            }
            return;
        }
        let mut buffer = [0; 4096];
        loop {
            let State::Up { channel, .. } = &mut self.state else { return };
            match channel.receive(&mut buffer) {
                Ok(None) => break,
                Ok(Some(0)) => return self.lost(queue),
                Ok(Some(length)) => {
                    if self.answers.is_some() {
                        self.said.extend_from_slice(&buffer[..length]);
                    }
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.lost(queue),
            }
        }
        if let Some(answers) = self.answers {
            let (chunks, taken) = answers(&self.said);
            self.said.drain(..taken);
            self.waiting.retain(|message| message.chunk.as_ref().is_none_or(|chunk| !chunks.contains(chunk)));
            if !chunks.is_empty() {
                self.oldest = (!self.waiting.is_empty()).then(Instant::now);
            }
            let late = self.oldest.zip(self.patience.read).is_some_and(|(at, most)| at.elapsed() >= most);
            if late || self.said.len() > 1 << 20 {
                self.lost(queue);
            }
        }
    }

    /// The connection has gone: what was not acknowledged, and the message that was being sent, go again.
    fn lost(&mut self, queue: &mut VecDeque<Message>) {
        while let Some(message) = self.waiting.pop_back() {
            queue.push_front(message);
        }
        self.oldest = None;
        self.said.clear();
        self.down();
    }

    fn down(&mut self) {
        self.sent = 0;
        let wait = self.patience.first_wait * 2_u32.saturating_pow(self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        // Closing the socket takes it out of the epoll.
        self.state =
            State::Down { again: Instant::now() + wait.min(LONGEST_WAIT.max(self.patience.first_wait)) };
    }

    fn up(&mut self, channel: Channel) -> Result<()> {
        self.epoll
            .add(channel.fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0))
            .context("watch the log's receiver")?;
        self.state = State::Up { channel, since: Instant::now(), stalled: None };
        Ok(())
    }

    /// Connects before the container starts: that may take its time.
    fn connect_now(&mut self) -> Result<Channel> {
        if let Target::Tcp(addresses) = &self.target {
            let mut last = None;
            for address in addresses {
                match TcpStream::connect_timeout(address, CONNECT) {
                    Ok(socket) => {
                        socket.set_nonblocking(true)?;
                        return Ok(Channel::Tcp(socket));
                    }
                    Err(err) => last = Some(anyhow::Error::new(err).context(format!("dial tcp {address}"))),
                }
            }
            return Err(last.unwrap_or_else(|| anyhow::anyhow!("no address")));
        }
        if let Target::Tls(relay) = &self.target {
            return relay.connect(CONNECT * 2).map(Channel::Unix);
        }
        self.local()
    }

    /// What connects at once or never.
    fn local(&self) -> Result<Channel> {
        let dial = |kind: &str, path: &Path| format!("dial {kind} {}", path.display());
        Ok(match &self.target {
            Target::Unix(path) => {
                let socket = UnixStream::connect(path).with_context(|| dial("unix", path))?;
                socket.set_nonblocking(true)?;
                Channel::Unix(socket)
            }
            Target::UnixDatagram(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path).with_context(|| dial("unixgram", path))?;
                socket.set_nonblocking(true)?;
                Channel::Datagram(socket)
            }
            Target::Udp(address) => {
                let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                let socket = UdpSocket::bind(any).context("make a UDP socket")?;
                socket.connect(address).with_context(|| format!("dial udp {address}"))?;
                socket.set_nonblocking(true)?;
                Channel::Udp(socket)
            }
            Target::Tcp(_) | Target::Tls(_) => anyhow::bail!("this takes its time"),
        })
    }

    /// Begins to connect again, without waiting.
    fn begin(&mut self) -> Result<()> {
        let (socket, event) = match &self.target {
            Target::Tcp(addresses) => {
                let address = addresses[self.next_address % addresses.len()];
                self.next_address = self.next_address.wrapping_add(1);
                (begin_tcp(address)?, EpollFlags::EPOLLOUT)
            }
            Target::Tls(relay) => (OwnedFd::from(relay.begin(Stdio::null())?), EpollFlags::EPOLLIN),
            _ => {
                let channel = self.local()?;
                return self.up(channel);
            }
        };
        self.epoll.add(&socket, EpollEvent::new(event, 0)).context("watch a connection")?;
        self.state = State::Connecting { socket, until: Instant::now() + CONNECT };
        Ok(())
    }
}

fn begin_tcp(address: SocketAddr) -> Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None).context("make a socket")?;
    match socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(err) => Err(err).with_context(|| format!("dial tcp {address}")),
    }
}

fn interest(epoll: &Epoll, fd: BorrowedFd<'_>, room: bool) {
    let mut flags = EpollFlags::EPOLLIN;
    flags.set(EpollFlags::EPOLLOUT, room);
    let _ = epoll.modify(fd, &mut EpollEvent::new(flags, 0));
}
