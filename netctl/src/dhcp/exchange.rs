//! One conversation with the servers of a network, on a packet socket of the container's interface: it has no address
//! yet, and nothing of the container's own can be in the way.

use std::fs::File;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::message::{self, Answer, CLIENT, Kind, Question};
use crate::attach::namespace;
use crate::network::definition::random;

/// To everybody.
pub const ALL: [u8; 6] = [0xff; 6];
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// Largest packet that is a message.
const LARGEST: usize = 2048;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The interface's index inside.
    pub interface: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Who we are: the container's id.
    pub id: &'a str,
    /// Its host name; empty for none.
    pub hostname: &'a str,
}

/// What a server granted, and the neighbour that its answer came from: the server itself, or the way to it.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    /// What it said.
    pub answer: Answer,
    /// The neighbour.
    pub neighbour: [u8; 6],
}

/// What is being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Any address, this one if it is free.
    Search(Option<Ipv4Addr>),
    /// The address that a server offered.
    Take(Ipv4Addr, Ipv4Addr),
    /// The address that we have, of one server or of all.
    Keep(Ipv4Addr, Option<(Ipv4Addr, [u8; 6])>),
}

/// One conversation.
#[derive(Debug)]
pub struct Exchange {
    socket: OwnedFd,
    transaction: u32,
    stage: Stage,
    since: Instant,
    next: Instant,
    wait: Duration,
}

impl Exchange {
    fn new(namespace: &File, client: Client<'_>, stage: Stage) -> Result<Self> {
        let socket = namespace::within(namespace, || sys::packet::open(client.interface, CLIENT))?
            .context("open a packet socket")?;
        let now = Instant::now();
        Ok(Self {
            socket,
            transaction: u32::from_ne_bytes(random()?),
            stage,
            since: now,
            next: now,
            wait: FIRST_WAIT,
        })
    }

    /// Asks all servers for an address, best for the one that we had.
    ///
    /// # Errors
    /// No packet socket.
    pub fn search(namespace: &File, client: Client<'_>, before: Option<Ipv4Addr>) -> Result<Self> {
        Self::new(namespace, client, Stage::Search(before))
    }

    /// Asks whether we may keep the address: that server behind its neighbour, or all.
    ///
    /// # Errors
    /// No packet socket.
    pub fn keep(
        namespace: &File,
        client: Client<'_>,
        own: Ipv4Addr,
        server: Option<(Ipv4Addr, [u8; 6])>,
    ) -> Result<Self> {
        Self::new(namespace, client, Stage::Keep(own, server))
    }

    /// When to call [`Self::ask`] next.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Asks, again if it must, twice as long after each time. That the interface is down at the moment is no error.
    pub fn ask(&mut self, client: Client<'_>) {
        let now = Instant::now();
        let blank = Question {
            kind: Kind::Request,
            transaction: self.transaction,
            seconds: u16::try_from((now - self.since).as_secs()).unwrap_or(u16::MAX),
            mac: client.mac,
            client: client.id,
            hostname: client.hostname,
            own: None,
            wanted: None,
            server: None,
            alone: false,
        };
        let (question, to) = match self.stage {
            Stage::Search(wanted) => (Question { kind: Kind::Discover, wanted, ..blank }, ALL),
            Stage::Take(wanted, server) => {
                (Question { wanted: Some(wanted), server: Some(server), ..blank }, ALL)
            }
            Stage::Keep(own, None) => (Question { own: Some(own), ..blank }, ALL),
            Stage::Keep(own, Some((server, neighbour))) => {
                (Question { own: Some(own), server: Some(server), alone: true, ..blank }, neighbour)
            }
        };
        let _ = sys::packet::send(&self.socket, client.interface, to, &question.packet());
        self.next = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }

    /// Takes in what has come: the end of the conversation, if it is there. `Some(None)` is a refusal.
    pub fn hear(&mut self, client: Client<'_>) -> Option<Option<Grant>> {
        let mut buffer = [0; LARGEST];
        loop {
            let (length, neighbour) = match sys::packet::receive(&self.socket, &mut buffer) {
                Ok(got) => got,
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            let packet = &buffer[..length.min(LARGEST)];
            let Some(answer) = message::read(packet, self.transaction, client.mac) else { continue };
            let kind = |wanted: Kind| answer.kind == wanted as u8;
            match (self.stage, answer.address, answer.server) {
                (Stage::Search(_), Some(address), Some(server)) if kind(Kind::Offer) => {
                    self.stage = Stage::Take(address, server);
                    (self.next, self.wait) = (Instant::now(), FIRST_WAIT);
                }
                (Stage::Take(..) | Stage::Keep(..), Some(_), _) if kind(Kind::Ack) => {
                    return Some(Some(Grant { answer, neighbour }));
                }
                (Stage::Take(..) | Stage::Keep(..), _, _) if kind(Kind::Nak) => return Some(None),
                _ => {}
            }
        }
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits for an address, at most so long.
///
/// # Errors
/// Nobody gives one.
pub fn obtain(namespace: &File, client: Client<'_>, patience: Duration) -> Result<Grant> {
    let end = Instant::now() + patience;
    let mut exchange = Exchange::search(namespace, client, None)?;
    loop {
        let now = Instant::now();
        if now >= end {
            bail!("no DHCP server gave an address within {} seconds", patience.as_secs());
        }
        if exchange.next() <= now {
            exchange.ask(client);
        }
        let wait = exchange.next().min(end).saturating_duration_since(Instant::now());
        wait_for(&exchange, wait)?;
        match exchange.hear(client) {
            Some(Some(grant)) => return Ok(grant),
            // Somebody else was faster; there may be others.
            Some(None) => exchange = Exchange::search(namespace, client, None)?,
            None => {}
        }
    }
}

fn wait_for(exchange: &Exchange, wait: Duration) -> Result<()> {
    let mut fds = [PollFd::new(exchange.as_fd(), PollFlags::POLLIN)];
    // Rounded up: it would spin through the last millisecond.
    let timeout = PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(err) => Err(err).context("wait for a DHCP server"),
    }
}

/// Tells the server that the address is free again. Nobody answers that.
///
/// # Errors
/// No packet socket.
pub fn release(
    namespace: &File,
    client: Client<'_>,
    own: Ipv4Addr,
    (server, neighbour): (Ipv4Addr, [u8; 6]),
) -> Result<()> {
    let socket = namespace::within(namespace, || sys::packet::open(client.interface, CLIENT))?
        .context("open a packet socket")?;
    let question = Question {
        kind: Kind::Release,
        transaction: u32::from_ne_bytes(random()?),
        seconds: 0,
        mac: client.mac,
        client: client.id,
        hostname: "",
        own: Some(own),
        wanted: None,
        server: Some(server),
        alone: true,
    };
    sys::packet::send(&socket, client.interface, neighbour, &question.packet())
        .context("release a DHCP lease")
}
