//! The name server: one thread, one poll set for all networks, no wake-up while nobody asks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::answer::{Action, answer};
use super::forward::{Forwarder, Question};
use super::host;
use super::names::Names;
use super::shared;
use super::stream::{Peer, Stream};
use super::wire::{Code, Query};
use super::zone::{Entry, Zone};
use crate::state;

/// Connections at once; a further one is closed at once.
const MOST_STREAMS: usize = 256;
/// Datagrams answered before other sockets get their turn.
const BATCH: usize = 64;
/// Before an address that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What an event in the poll set is about; places and streams are numbered from where the others end.
const FILES: u64 = 0;
const UPSTREAM: u64 = 1;
const DATAGRAM: u64 = 1 << 32;
const LISTENER: u64 = 1 << 33;
const FIRST_STREAM: u64 = 1 << 34;

/// What to serve, and how.
#[derive(Debug, Clone)]
pub struct Task {
    /// The directory of the zone files.
    pub dir: PathBuf,
    /// The port.
    pub port: u16,
    /// The domain that names may end in; empty for none.
    pub domain: &'static str,
}

/// An address that is served.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    zone: usize,
    datagrams: UdpSocket,
    listener: TcpListener,
}

/// The server and everything it waits for.
#[derive(Debug)]
pub struct Server {
    task: Task,
    names: Names,
    poll: Epoll,
    changes: Inotify,
    places: HashMap<u64, Place>,
    next_place: u64,
    /// When addresses that could not be had are tried again.
    missing: Option<Instant>,
    streams: HashMap<u64, Stream>,
    next_stream: u64,
    forwarder: Forwarder,
    host: host::Servers,
    /// Containers of our networks on other hosts, as last read.
    elsewhere: HashMap<String, Vec<Entry>>,
    turn: usize,
    text: Option<sys::memory::Text>,
}

impl Server {
    /// Binds the zones' addresses and watches their files.
    ///
    /// # Errors
    /// The directory cannot be read, or none of the addresses can be bound.
    pub fn new(task: Task) -> Result<Self> {
        let host = host::Servers::new(task.dir.with_file_name(crate::rootless::SERVERS));
        let mut server = Self {
            task,
            names: Names::default(),
            poll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            changes: Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context("inotify")?,
            places: HashMap::new(),
            next_place: 0,
            missing: None,
            streams: HashMap::new(),
            next_stream: FIRST_STREAM,
            forwarder: Forwarder::new().context("open sockets")?,
            host,
            elsewhere: HashMap::new(),
            turn: 0,
            text: sys::memory::Text::find().ok(),
        };
        server.watch(&server.changes, FILES)?;
        for socket in server.forwarder.sockets() {
            server.watch(socket, UPSTREAM)?;
        }
        let refused = server.read()?;
        match refused.into_iter().next() {
            Some(err) if server.places.is_empty() => Err(err),
            _ => Ok(server),
        }
    }

    /// Reads all zones and listens where they say; what could not be had.
    fn read(&mut self) -> Result<Vec<anyhow::Error>> {
        let dir = &self.task.dir;
        // Watched before it is read, so that no change falls between; each time, as it may be another directory of that
        // name. The directory, because files are replaced whole.
        let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_CLOSE_WRITE;
        if let Err(err) = self.changes.add_watch(dir, events)
            && err != nix::errno::Errno::ENOENT
        {
            bail!("watch {}: {}", dir.display(), err.desc());
        }
        let mut zones = Vec::new();
        let mut files = state::list(dir)?;
        files.sort();
        for name in files.iter().filter(|name| super::is_zone(name)) {
            let Some(text) = state::read(&dir.join(name))? else { continue };
            let mut zone = Zone::parse(name, &text);
            let others = self.elsewhere.entry(zone.network.clone()).or_default();
            if let Some(shared) = shared::read(dir, &zone.network)? {
                // Best effort: a list on another machine's disk tells nothing, and is read with the next change here.
                let _ = self.changes.add_watch(shared.directory(), events);
                // A list that cannot be read now leaves what was known.
                if let Ok(names) = shared.names(&zone) {
                    *others = names;
                }
                zone.entries.extend(others.iter().cloned());
            }
            zones.push(zone);
        }
        self.names = Names::new(zones, self.task.domain, self.host.get().to_vec());
        Ok(self.listen())
    }

    fn listen(&mut self) -> Vec<anyhow::Error> {
        let mut wanted: HashMap<IpAddr, usize> = HashMap::new();
        for (address, zone) in self.names.listen() {
            wanted.entry(address).or_insert(zone);
        }
        // First free what is not ours any more.
        self.places.retain(|_, place| match wanted.remove(&place.address) {
            Some(zone) => {
                place.zone = zone;
                true
            }
            None => false,
        });
        let mut refused = Vec::new();
        for (address, zone) in wanted {
            if let Err(err) = self.bind(address, zone) {
                let port = self.task.port;
                refused.push(anyhow::Error::from(err).context(format!("listen on {address} port {port}")));
            }
        }
        self.missing = (!refused.is_empty()).then(|| Instant::now() + AGAIN);
        refused
    }

    fn bind(&mut self, address: IpAddr, zone: usize) -> io::Result<()> {
        let (datagrams, listener) = super::bind(address, self.task.port)?;
        datagrams.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let number = self.next_place;
        self.next_place += 1;
        self.poll.add(&datagrams, EpollEvent::new(EpollFlags::EPOLLIN, DATAGRAM + number))?;
        self.poll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER + number))?;
        self.places.insert(number, Place { address, zone, datagrams, listener });
        Ok(())
    }

    /// Serves until no container is left on the network.
    ///
    /// # Errors
    /// The poll set itself fails.
    pub fn run(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        self.forget();
        while !self.names.is_empty() {
            let timeout = self.next_deadline().map_or(EpollTimeout::NONE, |deadline| {
                let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            });
            let count = match self.poll.wait(&mut events, timeout) {
                Err(nix::errno::Errno::EINTR) => 0,
                other => other.context("wait for queries")?,
            };
            for event in &events[..count] {
                self.serve(event.data());
            }
            self.give_up(Instant::now());
        }
        Ok(())
    }

    /// Reads the zones again: somebody came or left.
    pub fn reload(&mut self) {
        // Files that cannot be read now are about to be replaced: the old zones are better than none.
        let refused = self.read().unwrap_or_else(|err| vec![err]);
        for err in refused {
            contracts::report::print_error("netctl dns", &err);
        }
        self.forget();
    }

    /// Gives back what only start and change needed: the server is there all day for a few questions.
    fn forget(&self) {
        if let Some(text) = &self.text {
            text.forget();
        }
    }

    /// Whether nobody is left to serve.
    pub fn is_unused(&self) -> bool {
        self.names.is_empty()
    }

    fn watch(&self, fd: impl AsFd, token: u64) -> Result<()> {
        self.poll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token)).context("extend the poll set")
    }

    fn serve(&mut self, token: u64) {
        match token {
            FILES => {
                while self.changes.read_events().is_ok() {}
                self.reload();
            }
            UPSTREAM => self.receive_answers(),
            DATAGRAM..LISTENER => self.receive_queries(token - DATAGRAM),
            LISTENER..FIRST_STREAM => self.accept(token - LISTENER),
            stream => self.serve_stream(stream),
        }
    }

    fn follow_host(&mut self) {
        let servers = self.host.get();
        if servers != self.names.host {
            self.names.host = servers.to_vec();
        }
    }

    fn receive_queries(&mut self, number: u64) {
        let mut buffer = [0; 4096];
        let mut asked = Vec::new();
        self.follow_host();
        let Some(place) = self.places.get(&number) else { return };
        for _ in 0..BATCH {
            let Ok((length, client)) = place.datagrams.recv_from(&mut buffer) else { break };
            self.turn = self.turn.wrapping_add(1);
            let view = self.names.view(place.zone, client.ip());
            match answer(view, &buffer[..length], self.turn, false) {
                // A client that cannot be reached any more is no trouble of ours.
                Action::Reply(reply) => drop(place.datagrams.send_to(&reply, client)),
                Action::Forward => {
                    let servers = view.upstream().to_vec();
                    let message = buffer[..length].to_vec();
                    asked.push(Question { place: number, client, message, servers });
                }
                Action::Ignore => {}
            }
        }
        asked.into_iter().for_each(|question| self.ask(question));
    }

    /// A client that cannot be reached any more is no trouble of ours.
    fn reply(&self, place: u64, client: SocketAddr, reply: &[u8]) {
        if let Some(place) = self.places.get(&place) {
            let _ = place.datagrams.send_to(reply, client);
        }
    }

    fn ask(&mut self, question: Question) {
        if let Some(question) = self.forwarder.ask(question, Instant::now())
            && let Some(reply) = failure(&question.message)
        {
            self.reply(question.place, question.client, &reply);
        }
    }

    fn receive_answers(&mut self) {
        let mut buffer = [0; 4096];
        for side in 0..2 {
            for _ in 0..BATCH {
                let Ok((length, from)) = self.forwarder.sockets()[side].recv_from(&mut buffer) else { break };
                let message = &mut buffer[..length];
                if let Some(question) = self.forwarder.take(message, from) {
                    self.reply(question.place, question.client, message);
                }
            }
        }
    }

    fn accept(&mut self, number: u64) {
        while let Some(place) = self.places.get(&number)
            && let Ok((socket, client)) = place.listener.accept()
        {
            let peer = Peer::Client { place: number, address: client.ip() };
            if self.streams.len() < MOST_STREAMS
                && let Ok(stream) = Stream::new(socket, peer, Instant::now())
            {
                self.add_stream(stream);
            }
        }
    }

    fn add_stream(&mut self, stream: Stream) {
        let id = self.next_stream;
        self.next_stream += 1;
        // Writable at once for a client (which costs one empty turn), and once connected for a server.
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        if self.poll.add(&stream.socket, EpollEvent::new(interest, id)).is_ok() {
            self.streams.insert(id, stream);
        }
    }

    fn serve_stream(&mut self, id: u64) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        self.follow_host();
        let open = stream.receive(Instant::now());
        let mut keep = matches!(open, Ok(true));
        let mut asked = Vec::new();
        while let Some(message) = stream.next_message() {
            match &stream.peer {
                Peer::Client { place, address } => {
                    self.turn = self.turn.wrapping_add(1);
                    let Some(place) = self.places.get(place) else { return };
                    let view = self.names.view(place.zone, *address);
                    match answer(view, &message, self.turn, true) {
                        Action::Reply(reply) => stream.send(&reply),
                        Action::Forward => asked.push((message, view.upstream().to_vec())),
                        Action::Ignore => keep = false,
                    }
                }
                Peer::Upstream { client, message: question, .. } => {
                    if Query::parse(question).is_ok_and(|query| query.is_repeated_in(&message)) {
                        self.reply_by_stream(*client, &message);
                        return;
                    }
                    keep = false;
                }
            }
        }
        keep &= stream.flush().is_ok();
        if !keep {
            return self.ask_next_server(stream.peer);
        }
        // Back in its place first: an answer, even "nobody can be asked", finds it there.
        self.streams.insert(id, stream);
        for (message, servers) in asked {
            self.ask_by_stream(id, message, servers);
        }
    }

    fn reply_by_stream(&mut self, client: u64, reply: &[u8]) {
        if let Some(stream) = self.streams.get_mut(&client) {
            stream.send(reply);
            if stream.flush().is_err() {
                self.streams.remove(&client);
            }
        }
    }

    /// By TCP, because the answer may be longer than a datagram.
    fn ask_by_stream(&mut self, client: u64, message: Vec<u8>, mut servers: Vec<IpAddr>) {
        while !servers.is_empty() && self.streams.len() < MOST_STREAMS {
            let Ok(socket) = Stream::connect(servers.remove(0)) else { continue };
            let peer = Peer::Upstream { client, message: message.clone(), servers: servers.clone() };
            let Ok(mut stream) = Stream::new(socket, peer, Instant::now()) else { continue };
            stream.send(&message);
            return self.add_stream(stream);
        }
        if let Some(reply) = failure(&message) {
            self.reply_by_stream(client, &reply);
        }
    }

    fn ask_next_server(&mut self, peer: Peer) {
        if let Peer::Upstream { client, message, servers } = peer {
            self.ask_by_stream(client, message, servers);
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        let streams = self.streams.values().map(|stream| stream.deadline).min();
        self.forwarder.next_deadline().into_iter().chain(streams).chain(self.missing).min()
    }

    fn give_up(&mut self, now: Instant) {
        if self.missing.is_some_and(|time| time <= now) {
            self.listen();
        }
        while let Some(question) = self.forwarder.take_expired(now) {
            self.ask(question);
        }
        let silent: Vec<u64> =
            self.streams.iter().filter(|(_, stream)| stream.deadline <= now).map(|(id, _)| *id).collect();
        for id in silent {
            if let Some(stream) = self.streams.remove(&id) {
                self.ask_next_server(stream.peer);
            }
        }
    }
}

fn failure(message: &[u8]) -> Option<Vec<u8>> {
    Query::parse(message).ok().map(|query| query.answer_code(Code::ServerFailure))
}
