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
    /// Where it asked.
    pub place: u64,
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
    }
}
