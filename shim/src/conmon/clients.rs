//! Attached clients: each gets all output from when it connects on; what they send is the payload's stdin.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use sys::seqpacket;

use super::cli::Options;
use super::create::bundle;
use crate::log::Stream;

/// What a client's events are told by: they count up from here.
pub const FIRST: u64 = 16;
/// Most data in one packet; a type byte comes first.
const CHUNK: usize = 8192;
/// A client this far behind makes the payload wait.
const LAG: usize = 256 << 10;
/// A client that takes nothing for this long is dropped: nobody may stop a container for ever by not reading.
const PATIENCE: Duration = Duration::from_secs(60);

struct Client {
    socket: OwnedFd,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    took_at: Instant,
    /// It has ended its side: nothing more is read from it.
    ended: bool,
}

/// The attach socket and who came.
pub struct Clients {
    listener: OwnedFd,
    /// The socket, and CRI-O's link to its directory.
    paths: Vec<PathBuf>,
    all: BTreeMap<u64, Client>,
    next: u64,
}

/// What a client sent.
pub enum Sent {
    Bytes(Vec<u8>),
    /// No more stdin from it.
    End,
    Nothing,
}

impl Clients {
    /// Listens on `BUNDLE/attach`, and for CRI-O on `SOCKET_DIR/CUUID/attach`, which leads there.
    pub fn listen(options: &Options) -> Result<Self> {
        let bundle = bundle(options);
        let listener = seqpacket::listen(&bundle, "attach").context("listen for clients")?;
        let _ = std::fs::set_permissions(
            bundle.join("attach"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        );
        let mut paths = vec![bundle.join("attach")];
        if !options.full_attach {
            let dir = options.socket_dir.clone().unwrap_or_else(|| "/var/run/crio".into());
            let mut link = dir.join(&options.cuuid).into_os_string().into_string().unwrap_or_default();
            // conmon's rule for a path of just the length of an address.
            if link.len() == 107 {
                link.pop();
            }
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&bundle, &link).with_context(|| format!("make the link {link}"))?;
            paths.push(link.into());
        }
        Ok(Self { listener, paths, all: BTreeMap::new(), next: FIRST })
    }

    pub fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    pub fn accept(&mut self, epoll: &Epoll) {
        while let Ok(Some(socket)) = seqpacket::accept(&self.listener) {
            if epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, self.next)).is_ok() {
                let (queue, took_at) = (VecDeque::new(), Instant::now());
                self.all.insert(self.next, Client { socket, queue, queued: 0, took_at, ended: false });
                self.next += 1;
            }
        }
    }

    /// Sends output to everybody.
    pub fn show(&mut self, epoll: &Epoll, stream: Stream, bytes: &[u8]) {
        let kind = if stream == Stream::Stdout { 2 } else { 3 };
        for chunk in bytes.chunks(CHUNK) {
            for client in self.all.values_mut() {
                let packet = [&[kind], chunk].concat();
                client.queued += packet.len();
                client.queue.push_back(packet);
            }
        }
        self.push_all(epoll);
    }

    fn push_all(&mut self, epoll: &Epoll) {
        self.all.retain(|token, client| client.push(epoll, *token));
    }

    /// One of them can be read or written.
    pub fn handle(&mut self, epoll: &Epoll, token: u64, flags: EpollFlags, read: bool) -> Sent {
        let Some(client) = self.all.get_mut(&token) else { return Sent::Nothing };
        if flags.contains(EpollFlags::EPOLLOUT) && !client.push(epoll, token) {
            self.all.remove(&token);
            return Sent::End;
        }
        if !read || client.ended || !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP) {
            return Sent::Nothing;
        }
        let mut buffer = [0; 32 << 10];
        match seqpacket::receive(&client.socket, &mut buffer) {
            Ok(length) if length > 0 => Sent::Bytes(buffer[..length].to_vec()),
            Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => Sent::Nothing,
            _ => {
                client.ended = true;
                if flags.contains(EpollFlags::EPOLLHUP) {
                    self.all.remove(&token);
                } else {
                    client.watch(epoll, token);
                }
                Sent::End
            }
        }
    }

    /// Stops or goes on reading what they send.
    pub fn listen_to_stdin(&mut self, epoll: &Epoll, on: bool) {
        for (token, client) in &self.all {
            let mut flags = client.flags();
            if !on {
                flags.remove(EpollFlags::EPOLLIN);
            }
            let _ = epoll.modify(&client.socket, &mut EpollEvent::new(flags, *token));
        }
    }

    /// Whether the payload has to wait, and when that ends at the latest.
    pub fn behind(&self) -> Option<Instant> {
        let late = self.all.values().filter(|client| client.queued > LAG);
        late.map(|client| client.took_at + PATIENCE).min()
    }

    /// Drops who has not read for too long.
    pub fn lose_patience(&mut self, now: Instant) {
        self.all.retain(|_, client| client.queued <= LAG || client.took_at + PATIENCE > now);
    }

    /// The last bytes, to who takes them soon; then everything goes.
    pub fn close(mut self, epoll: &Epoll) {
        let end = Instant::now() + Duration::from_secs(5);
        self.push_all(epoll);
        while self.all.values().any(|client| client.queued > 0) && Instant::now() < end {
            let mut events = [EpollEvent::empty(); 8];
            let _ = epoll.wait(&mut events, 100u8);
            self.push_all(epoll);
        }
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Client {
    /// Sends what the socket takes; false where it has gone.
    fn push(&mut self, epoll: &Epoll, token: u64) -> bool {
        let had = self.queued > 0;
        while let Some(next) = self.queue.front() {
            match seqpacket::send(&self.socket, next) {
                Ok(()) => {
                    self.queued -= next.len();
                    self.queue.pop_front();
                    self.took_at = Instant::now();
                }
                Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => break,
                Err(_) => return false,
            }
        }
        if had {
            self.watch(epoll, token);
        }
        true
    }

    fn flags(&self) -> EpollFlags {
        let mut flags = if self.ended { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        flags.set(EpollFlags::EPOLLOUT, self.queued > 0);
        flags
    }

    fn watch(&self, epoll: &Epoll, token: u64) {
        let _ = epoll.modify(&self.socket, &mut EpollEvent::new(self.flags(), token));
    }
}
