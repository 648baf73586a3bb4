//! Attached clients: each gets all output from when it connects on; what they send is the payload's stdin.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use sys::seqpacket;

use super::cli::Options;
use super::create::bundle;
use crate::attach::backlog::{self, Backlog};
use crate::log::Stream;

/// What a client's events are told by: they count up from here.
pub const FIRST: u64 = 16;
/// Most data in one packet; a type byte comes first.
const CHUNK: usize = 8192;
/// How long the last bytes may take before another process takes care of them.
const FAREWELL: Duration = Duration::from_secs(1);

struct Client {
    socket: OwnedFd,
    backlog: Backlog,
    /// It has ended its side: nothing more is read from it.
    ended: bool,
}

/// The attach socket and who came.
pub struct Clients {
    listener: OwnedFd,
    /// Where what clients do not take is kept.
    bundle: PathBuf,
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
        Ok(Self { listener, bundle, paths, all: BTreeMap::new(), next: FIRST })
    }

    pub fn listener(&self) -> &OwnedFd {
        &self.listener
    }

    pub fn accept(&mut self, epoll: &Epoll) {
        while let Ok(Some(socket)) = seqpacket::accept(&self.listener) {
            if epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, self.next)).is_ok() {
                let backlog = Backlog::new(Some(self.bundle.clone()));
                self.all.insert(self.next, Client { socket, backlog, ended: false });
                self.next += 1;
            }
        }
    }

    /// Sends output to everybody.
    pub fn show(&mut self, epoll: &Epoll, stream: Stream, bytes: &[u8]) {
        let kind = if stream == Stream::Stdout { 2 } else { 3 };
        for chunk in bytes.chunks(CHUNK) {
            for client in self.all.values_mut() {
                client.backlog.push([&[kind], chunk].concat());
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
        let late = self.all.values().filter(|client| client.backlog.is_full());
        late.map(|client| client.backlog.patience_ends()).min()
    }

    /// Drops who has not read for too long: nobody may stop a container for ever.
    pub fn lose_patience(&mut self, now: Instant) {
        self.all.retain(|_, client| !client.backlog.is_full() || client.backlog.patience_ends() > now);
    }

    /// The last bytes, to who takes them soon; what others have not taken is left to a process of their own: nobody has
    /// to wait for them, and they lose nothing.
    pub fn close(mut self, epoll: &Epoll) {
        let end = Instant::now() + FAREWELL;
        self.push_all(epoll);
        while self.all.values().any(|client| !client.backlog.is_empty()) && Instant::now() < end {
            let mut events = [EpollEvent::empty(); 8];
            let _ = epoll.wait(&mut events, 100u8);
            self.push_all(epoll);
        }
        for client in self.all.into_values().filter(|client| !client.backlog.is_empty()) {
            // Where even that cannot be done they see the connection's end.
            let _ = backlog::leave_behind(client.socket, client.backlog);
        }
        for path in &self.paths {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Client {
    /// Sends what the socket takes; false where it has gone.
    fn push(&mut self, epoll: &Epoll, token: u64) -> bool {
        let had = !self.backlog.is_empty();
        let alive = self.backlog.send(&self.socket).is_ok();
        if alive && had {
            self.watch(epoll, token);
        }
        alive
    }

    fn flags(&self) -> EpollFlags {
        let mut flags = if self.ended { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        flags.set(EpollFlags::EPOLLOUT, !self.backlog.is_empty());
        flags
    }

    fn watch(&self, epoll: &Epoll, token: u64) {
        let _ = epoll.modify(&self.socket, &mut EpollEvent::new(self.flags(), token));
    }
}
