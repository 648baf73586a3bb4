//! The name server of one network: one thread, one poll set, no wake-up while nobody asks.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use contracts::atomic;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::answer::{Action, answer};
use super::forward::{Forwarder, Question};
use super::stream::{Peer, Stream};
use super::wire::{Code, Query};
use super::zone::{Index, Zone};

/// Connections at once; a further one is closed at once.
const MOST_STREAMS: usize = 256;
/// Datagrams answered before other sockets get their turn.
const BATCH: usize = 64;

/// What an event in the poll set is about; the numbers of streams start where the others end.
const FILE: u64 = 0;
const UPSTREAM: u64 = 1;
const DATAGRAM: u64 = 1 << 8;
const LISTENER: u64 = 1 << 16;
const FIRST_STREAM: u64 = 1 << 32;

/// The server and everything it waits for.
#[derive(Debug)]
pub struct Server {
    file: PathBuf,
    index: Index,
    poll: Epoll,
    changes: Inotify,
    datagrams: Vec<UdpSocket>,
    listeners: Vec<TcpListener>,
    streams: HashMap<u64, Stream>,
    next_stream: u64,
    forwarder: Forwarder,
    turn: usize,
}

impl Server {
    /// Binds the zone's addresses and watches its file.
    ///
    /// # Errors
    /// The file cannot be read, or an address cannot be bound.
    pub fn new(file: &Path) -> Result<Self> {
        let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).context("inotify")?;
        let folder = file.parent().unwrap_or(Path::new("."));
        // Watched before it is read, so that no change falls between. The folder, because the file is replaced whole.
        let events = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        changes.add_watch(folder, events).with_context(|| format!("watch {}", folder.display()))?;
        let mut zone: Zone = atomic::read_json(file)?.unwrap_or_default();
        if let Some(shared) = &zone.shared {
            // Best effort: a list on another machine's disk tells nothing, and is read with the next change here.
            let folder =
                if shared.path.is_dir() { &shared.path } else { shared.path.parent().unwrap_or(folder) };
            let _ = changes.add_watch(folder, events | AddWatchFlags::IN_CLOSE_WRITE);
        }
        zone.look_elsewhere();
        let bind = |address: &IpAddr| -> io::Result<(UdpSocket, TcpListener)> {
            Ok((UdpSocket::bind((*address, 53))?, TcpListener::bind((*address, 53))?))
        };
        let mut server = Self {
            file: file.to_owned(),
            poll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            changes,
            datagrams: Vec::new(),
            listeners: Vec::new(),
            streams: HashMap::new(),
            next_stream: FIRST_STREAM,
            forwarder: Forwarder::new().context("open sockets")?,
            turn: 0,
            index: Index::default(),
        };
        for address in &zone.listen {
            let (datagram, listener) =
                bind(address).with_context(|| format!("listen on {address} port 53"))?;
            datagram.set_nonblocking(true)?;
            listener.set_nonblocking(true)?;
            server.watch(&datagram, DATAGRAM + server.datagrams.len() as u64)?;
            server.watch(&listener, LISTENER + server.listeners.len() as u64)?;
            server.datagrams.push(datagram);
            server.listeners.push(listener);
        }
        server.watch(&server.changes, FILE)?;
        for socket in server.forwarder.sockets() {
            server.watch(socket, UPSTREAM)?;
        }
        server.index = zone.into();
        Ok(server)
    }

    /// Serves until no container is left on the network.
    ///
    /// # Errors
    /// The poll set itself fails.
    pub fn run(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 64];
        while !self.index.is_empty() {
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

    /// Reads the zone again: somebody came or left.
    pub fn reload(&mut self) {
        // A file that cannot be read now is about to be replaced: the old zone is better than none.
        match atomic::read_json::<Zone>(&self.file) {
            Ok(zone) => {
                let mut zone = zone.unwrap_or_default();
                zone.look_elsewhere();
                self.index = zone.into();
            }
            Err(err) => contracts::report::print_error("netctl dns", &err),
        }
    }

    /// Whether the zone has nobody left.
    pub fn is_unused(&self) -> bool {
        self.index.is_empty()
    }

    fn watch(&self, fd: impl AsFd, token: u64) -> Result<()> {
        self.poll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token)).context("extend the poll set")
    }

    fn serve(&mut self, token: u64) {
        let position = usize::try_from(token & 0xff).unwrap_or_default();
        match token {
            FILE => {
                while self.changes.read_events().is_ok() {}
                self.reload();
            }
            UPSTREAM => self.receive_answers(),
            DATAGRAM..LISTENER => self.receive_queries(position),
            LISTENER..FIRST_STREAM => self.accept(position),
            stream => self.serve_stream(stream),
        }
    }

    fn receive_queries(&mut self, socket: usize) {
        let mut buffer = [0; 4096];
        for _ in 0..BATCH {
            let Ok((length, client)) = self.datagrams[socket].recv_from(&mut buffer) else { return };
            self.turn = self.turn.wrapping_add(1);
            match answer(&self.index, &buffer[..length], client.ip(), self.turn, false) {
                Action::Reply(reply) => self.reply(socket, client, &reply),
                Action::Forward => {
                    let servers = self.index.upstream_for(client.ip()).to_vec();
                    self.ask(Question { socket, client, message: buffer[..length].to_vec(), servers });
                }
                Action::Ignore => {}
            }
        }
    }

    /// A client that cannot be reached any more is no trouble of ours.
    fn reply(&self, socket: usize, client: SocketAddr, reply: &[u8]) {
        let _ = self.datagrams[socket].send_to(reply, client);
    }

    fn ask(&mut self, question: Question) {
        if let Some(question) = self.forwarder.ask(question, Instant::now())
            && let Some(reply) = failure(&question.message)
        {
            self.reply(question.socket, question.client, &reply);
        }
    }

    fn receive_answers(&mut self) {
        let mut buffer = [0; 4096];
        for side in 0..2 {
            for _ in 0..BATCH {
                let Ok((length, from)) = self.forwarder.sockets()[side].recv_from(&mut buffer) else { break };
                let message = &mut buffer[..length];
                if let Some(question) = self.forwarder.take(message, from) {
                    self.reply(question.socket, question.client, message);
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) {
        while let Ok((socket, client)) = self.listeners[listener].accept() {
            if self.streams.len() < MOST_STREAMS
                && let Ok(stream) = Stream::new(socket, Peer::Client(client.ip()), Instant::now())
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
        let open = stream.receive(Instant::now());
        let mut keep = matches!(open, Ok(true));
        let mut asked = Vec::new();
        while let Some(message) = stream.next_message() {
            match &stream.peer {
                Peer::Client(client) => {
                    let client = *client;
                    self.turn = self.turn.wrapping_add(1);
                    match answer(&self.index, &message, client, self.turn, true) {
                        Action::Reply(reply) => stream.send(&reply),
                        Action::Forward => asked.push((message, self.index.upstream_for(client).to_vec())),
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
        self.forwarder.next_deadline().into_iter().chain(streams).min()
    }

    fn give_up(&mut self, now: Instant) {
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
