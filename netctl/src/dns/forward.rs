<<<<<<< HEAD
//! Questions passed on by datagram: who asked, under which number we asked whom, and when we give up.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::wire::HEADER;

/// How long one upstream server may take.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Questions under way at once; a flood beyond it is dropped, as UDP may.
const MOST: usize = 4096;

/// A client waiting for somebody else's answer.
#[derive(Debug)]
pub struct Question {
    /// Which of our sockets it came by.
    pub socket: usize,
    /// Who asked.
    pub client: SocketAddr,
    /// The query as it came.
    pub message: Vec<u8>,
    /// Servers still to try.
    pub servers: Vec<IpAddr>,
}

#[derive(Debug)]
struct Waiting {
    question: Question,
    asked: SocketAddr,
}

/// The questions under way.
#[derive(Debug)]
pub struct Forwarder {
    sockets: [UdpSocket; 2],
    waiting: HashMap<u16, Waiting>,
    /// In the order they were asked, so also in the order they expire.
    deadlines: VecDeque<(Instant, u16)>,
    /// Numbers that nobody outside can guess: a keyed hash of a counter.
    secret: RandomState,
    counter: u64,
}

impl Forwarder {
    /// Opens the sockets to ask by.
    ///
    /// # Errors
    /// No socket can be had.
    pub fn new() -> io::Result<Self> {
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Without IPv6 in the kernel its place is taken by a socket that is never used.
        let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
            .or_else(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
        v4.set_nonblocking(true)?;
        v6.set_nonblocking(true)?;
        Ok(Self {
            sockets: [v4, v6],
            waiting: HashMap::new(),
            deadlines: VecDeque::new(),
            secret: RandomState::new(),
            counter: 0,
        })
    }

    /// The sockets on which answers come.
    pub fn sockets(&self) -> &[UdpSocket; 2] {
        &self.sockets
    }

    /// Asks the next server of a question; gives it back where none is left or none can be reached.
    pub fn ask(&mut self, mut question: Question, now: Instant) -> Option<Question> {
        if self.waiting.len() >= MOST {
            return Some(question);
        }
        while !question.servers.is_empty() {
            let asked = SocketAddr::new(question.servers.remove(0), 53);
            let number = self.fresh_number();
            let mut message = question.message.clone();
            message[..2].copy_from_slice(&number.to_be_bytes());
            if self.sockets[usize::from(asked.is_ipv6())].send_to(&message, asked).is_ok() {
                self.deadlines.push_back((now + PATIENCE, number));
                self.waiting.insert(number, Waiting { question, asked });
                return None;
            }
        }
        Some(question)
    }

    /// Matches an answer with its question: the number, the server asked and the question itself must agree, else it
    /// is somebody's forgery.
    pub fn take(&mut self, message: &mut [u8], from: SocketAddr) -> Option<Question> {
        let number = super::wire::word(message, 0)?;
        let waiting = self.waiting.get(&number)?;
        let asked = &waiting.question.message;
        let same_question = message.len() > HEADER
            && message[2] & 0x80 != 0
            && super::wire::Query::parse(asked).is_ok_and(|query| query.is_repeated_in(message));
        if waiting.asked != from || !same_question {
            return None;
        }
        let question = self.waiting.remove(&number)?.question;
        message[..2].copy_from_slice(&question.message[..2]);
        Some(question)
    }

    /// When the next question expires.
    pub fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, number)) = self.deadlines.front() {
            if self.waiting.contains_key(number) {
                return Some(*deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// Takes one question whose server has had its time.
    pub fn take_expired(&mut self, now: Instant) -> Option<Question> {
        let deadline = self.next_deadline()?;
        let (_, number) = if deadline <= now { self.deadlines.pop_front()? } else { return None };
        self.waiting.remove(&number).map(|waiting| waiting.question)
    }

    /// Never one that is under way, nor one that still stands in the list of deadlines from an earlier use.
    fn fresh_number(&mut self) -> u16 {
        loop {
            self.counter += 1;
            let [high, low, ..] = self.secret.hash_one(self.counter).to_be_bytes();
            let number = u16::from_be_bytes([high, low]);
            if !self.waiting.contains_key(&number) && !self.deadlines.iter().any(|(_, old)| *old == number) {
                return number;
            }
        }
=======
//! Queries for names that are none of ours go to the host's servers, each from a socket of its own: a random port
//! and a random id make a forged answer hopeless.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

use super::client::Stream;
use crate::network::definition::random;

/// How long one server gets before the next is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many queries may be under way; more are refused at once.
pub const MOST: usize = 256;
const DNS: u16 = 53;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A datagram's sender, on the listener of that number.
    Udp(usize, SocketAddr),
    /// The TCP connection of that number.
    Tcp(u64),
}

#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Tcp(Stream),
}

/// One query under way.
#[derive(Debug)]
pub struct Forward {
    /// Who waits.
    pub asker: Asker,
    /// The query as it came.
    pub query: Vec<u8>,
    id: [u8; 2],
    servers: VecDeque<IpAddr>,
    link: Link,
    deadline: Instant,
}

/// Where a forwarded query stands.
#[derive(Debug)]
pub enum Progress {
    /// Keep it.
    Waiting,
    /// The answer, with the client's id.
    Answer(Vec<u8>),
    /// No server answered.
    Failed,
}

impl Forward {
    /// Sends a query on to the first of `servers`; `None` where none can be asked.
    pub fn new(asker: Asker, query: Vec<u8>, servers: &[IpAddr]) -> Option<Self> {
        let mut servers: VecDeque<IpAddr> = servers.iter().take(3).copied().collect();
        let id = random::<2>().ok()?;
        let link = next(asker, &query, id, &mut servers)?;
        Some(Self { asker, query, id, servers, link, deadline: Instant::now() + PATIENCE })
    }

    /// The socket to wait for.
    pub fn fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Udp(socket) => socket.as_fd(),
            Link::Tcp(stream) => stream.socket.as_fd(),
        }
    }

    /// Whether to wait for room to write, too.
    pub fn wants_to_write(&self) -> bool {
        matches!(&self.link, Link::Tcp(stream) if stream.wants_to_write())
    }

    /// Reads what came.
    pub fn advance(&mut self, ready: bool) -> Progress {
        let mut over = Instant::now() >= self.deadline;
        if ready {
            match &mut self.link {
                Link::Udp(socket) => {
                    let mut buffer = [0; 4096];
                    match socket.recv(&mut buffer) {
                        Ok(length) => {
                            if let Some(answer) = self.accept(&buffer[..length]) {
                                return Progress::Answer(answer);
                            }
                        }
                        Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {}
                        // ECONNREFUSED: nobody listens there.
                        Err(_) => over = true,
                    }
                }
                Link::Tcp(stream) => {
                    stream.flush();
                    let messages = stream.receive();
                    over |= stream.is_over();
                    if let Some(answer) = messages.first().and_then(|message| self.accept(message)) {
                        return Progress::Answer(answer);
                    }
                }
            }
        }
        if !over {
            return Progress::Waiting;
        }
        match next(self.asker, &self.query, self.id, &mut self.servers) {
            Some(link) => {
                self.link = link;
                self.deadline = Instant::now() + PATIENCE;
                Progress::Waiting
            }
            None => Progress::Failed,
        }
    }

    fn accept(&self, message: &[u8]) -> Option<Vec<u8>> {
        let answers = message.get(..2) == Some(&self.id) && message.get(2).is_some_and(|flags| flags & 0x80 != 0);
        let mut answer = message.to_vec();
        answer.get_mut(..2)?.copy_from_slice(&self.query[..2]);
        answers.then_some(answer)
    }
}

fn next(asker: Asker, query: &[u8], id: [u8; 2], servers: &mut VecDeque<IpAddr>) -> Option<Link> {
    let mut message = query.to_vec();
    message.get_mut(..2)?.copy_from_slice(&id);
    while let Some(server) = servers.pop_front() {
        let opened = match asker {
            Asker::Udp(..) => open_udp(server, &message).map(Link::Udp),
            Asker::Tcp(_) => open_tcp(server).map(|socket| Link::Tcp(Stream::new(socket, server, Some(&message)))),
        };
        if let Ok(link) = opened {
            return Some(link);
        }
    }
    None
}

fn open_udp(server: IpAddr, message: &[u8]) -> std::io::Result<UdpSocket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    // Connected: the kernel lets only that server's datagrams in.
    socket.connect((server, DNS))?;
    socket.send(message)?;
    Ok(socket)
}

fn open_tcp(server: IpAddr) -> std::io::Result<TcpStream> {
    use std::os::fd::AsRawFd as _;
    let family = if server.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(server, DNS))) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => Ok(fd.into()),
        Err(err) => Err(err.into()),
>>>>>>> 4c7a594 (netctl: networks, attachments, firewall, names)
    }
}
