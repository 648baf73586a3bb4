//! Clients of the control socket: one request each, then answers or streams.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Result;
use contracts::container::State;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use sys::seqpacket;

use super::streams::STDIN_LIMIT;
use super::{Phase, Supervisor};
use crate::attach::backlog::Backlog;
use crate::attach::client::message;
use crate::attach::wire::{self, Exit, Reply, Request};
use crate::{events, tools};

pub(super) struct Client {
    socket: OwnedFd,
    /// The command that started the container.
    foreground: bool,
    attached: bool,
    /// Waits for the payload's end.
    waits: bool,
    /// Waits for the result of a health check.
    asks_health: bool,
    /// Is writing a checkpoint, which ends the payload.
    checkpoints: bool,
    /// Sends stdin: when it goes, so does the payload's stdin.
    feeds: bool,
    backlog: Backlog,
}

impl Client {
    /// Whether bytes for it are waiting.
    pub fn has_more(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Whether the payload has to wait for it: nothing more can be kept for it, nor can it be sent away.
    pub fn holds_output(&self) -> bool {
        self.foreground && self.backlog.is_full()
    }

    /// Whether the payload's end is its doing.
    pub fn is_checkpointing(&self) -> bool {
        self.checkpoints
    }

    /// False where it has gone, or is too far behind and not the one for whom the container was started.
    fn send(&mut self, bytes: Vec<u8>) -> bool {
        self.backlog.push(bytes);
        self.push() && (self.foreground || !self.backlog.is_full())
    }

    /// Sends what the socket takes.
    fn push(&mut self) -> bool {
        self.backlog.send(&self.socket).is_ok()
    }
}

impl Supervisor {
    pub(super) fn accept(&mut self) {
        while let Ok(Some(socket)) = seqpacket::accept(&self.listener) {
            self.add_client(socket, false);
        }
    }

    pub(super) fn add_client(&mut self, socket: OwnedFd, foreground: bool) {
        let token = self.next_client;
        let flags = nix::fcntl::OFlag::O_NONBLOCK;
        let nonblocking = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(flags));
        let watched = self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token));
        if nonblocking.is_err() || watched.is_err() {
            return;
        }
        self.next_client += 1;
        let client = Client {
            socket,
            foreground,
            attached: foreground,
            waits: foreground,
            asks_health: false,
            checkpoints: false,
            feeds: false,
            backlog: Backlog::new(self.backlog_dir()),
        };
        self.clients.insert(token, client);
    }

    /// Where what clients do not take is kept: beside the log. Without a log there is none to protect from them, and
    /// the payload waits for its reader as in any pipeline.
    fn backlog_dir(&self) -> Option<std::path::PathBuf> {
        (!matches!(self.log, crate::log::Sink::None)).then(|| self.store.dir(&self.record.id))
    }

    /// When a foreground that can be no further behind is no longer waited for.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        self.backlog_dir()?;
        let late = self.clients.values().filter(|client| client.holds_output());
        late.map(|client| client.backlog.patience_ends()).min()
    }

    /// Lets those go who hold the log up for too long.
    pub(super) fn lose_patience(&mut self, now: Instant) {
        while self.patience_ends().is_some_and(|at| at <= now) {
            let late = |client: &Client| client.holds_output() && client.backlog.patience_ends() <= now;
            let Some(token) = self.clients.iter().find_map(|(&token, client)| late(client).then_some(token))
            else {
                return;
            };
            self.drop_client(token);
        }
    }

    pub(super) fn on_client(&mut self, token: u64, flags: EpollFlags) -> Result<()> {
        if flags.contains(EpollFlags::EPOLLOUT)
            && let Some(client) = self.clients.get_mut(&token)
        {
            if !client.push() {
                self.drop_client(token);
                return Ok(());
            }
            self.watch_client(token);
            self.hold_or_go_on();
        }
        if !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return Ok(());
        }
        let mut buffer = [0; wire::CHUNK + 1];
        let Some(client) = self.clients.get(&token) else { return Ok(()) };
        match seqpacket::receive(&client.socket, &mut buffer) {
            Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => Ok(()),
            Ok(0) | Err(_) => {
                self.drop_client(token);
                Ok(())
            }
            Ok(length) => self.on_message(token, &buffer[..length]),
        }
    }

    fn on_message(&mut self, token: u64, bytes: &[u8]) -> Result<()> {
        let Some((&kind, payload)) = bytes.split_first() else { return Ok(()) };
        match (kind, payload) {
            (wire::STDIN, bytes) => {
                if let Some(client) = self.clients.get_mut(&token) {
                    client.feeds = true;
                }
                self.feed_stdin(bytes);
                // Who sends faster than the payload reads waits: nothing more is read from it for now.
                self.watch_client(token);
            }
            (wire::CLOSE, _) => self.close_stdin(),
            (wire::SIZE, &[a, b, c, d]) => {
                if let Some(terminal) = &self.streams.terminal {
                    let size = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                    let _ = sys::pty::set_size(terminal.as_fd(), size);
                }
            }
            (wire::SIGNAL, &[number]) => self.signal(i32::from(number)),
            (wire::REQUEST, json) => match serde_json::from_slice(json) {
                Ok(request) => self.on_request(token, request)?,
                Err(err) => self.reply(token, Some(format!("unknown request: {err}"))),
            },
            _ => {}
        }
        Ok(())
    }

    fn on_request(&mut self, token: u64, request: Request) -> Result<()> {
        if self.phase == Phase::Over {
            self.send_exit(token);
            return Ok(());
        }
        match request {
            Request::Attach { stdin } => {
                if let Some(client) = self.clients.get_mut(&token) {
                    (client.attached, client.waits, client.feeds) = (true, true, stdin);
                }
                events::container(&self.store, &self.record, "attach", &[]);
            }
            Request::Start => {
                let error = self.begin().err().map(|err| contracts::report::one_line(&err));
                self.reply(token, error);
            }
            Request::Checkpoint => {
                if let Some(client) = self.clients.get_mut(&token) {
                    (client.waits, client.checkpoints) = (true, true);
                }
                self.reply(token, None);
            }
            Request::Wait => {
                if let Some(client) = self.clients.get_mut(&token) {
                    client.waits = true;
                }
            }
            Request::Stop { signal, timeout } => {
                if let Some(client) = self.clients.get_mut(&token) {
                    client.waits = true;
                }
                self.stop(signal, timeout, true)?;
            }
            Request::Signal { number } => {
                self.user_signal(number)?;
                self.reply(token, None);
            }
            Request::Paused(paused) => {
                // It may have ended at that moment, and wait for its next start.
                if self.phase == Phase::Running {
                    self.status.state = if paused { State::Paused } else { State::Running };
                    self.publish();
                }
                self.reply(token, None);
            }
            Request::Reload => {
                if let Ok(record) = self.store.load(&self.record.id) {
                    let other = record.config.healthcheck != self.record.config.healthcheck
                        || record.health_more != self.record.health_more;
                    self.record = record;
                    self.watch_memory();
                    if other {
                        self.health_changed();
                    }
                }
                self.reply(token, None);
            }
            Request::Health => {
                if let Some(error) = self.health_now() {
                    self.reply(token, Some(error));
                } else if let Some(client) = self.clients.get_mut(&token) {
                    client.asks_health = true;
                }
            }
        }
        Ok(())
    }

    fn reply(&mut self, token: u64, error: Option<String>) {
        self.send(token, message(wire::REPLY, &Reply { error }));
    }

    /// Tells those who asked for a health check what came of it.
    pub(super) fn tell_health(&mut self, error: Option<&str>) {
        let asks = |(&token, client): (&u64, &Client)| client.asks_health.then_some(token);
        let tokens: Vec<u64> = self.clients.iter().filter_map(asks).collect();
        for token in tokens {
            self.reply(token, error.map(str::to_owned));
            if let Some(client) = self.clients.get_mut(&token) {
                client.asks_health = false;
            }
        }
    }

    fn send_exit(&mut self, token: u64) {
        self.send(token, message(wire::EXIT, &Exit { code: self.status.exit_code }));
    }

    fn send(&mut self, token: u64, bytes: Vec<u8>) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        if client.send(bytes) {
            self.watch_client(token);
        } else {
            self.drop_client(token);
        }
    }

    /// To everyone who watches.
    pub(super) fn show_attached(&mut self, kind: u8, bytes: &[u8]) {
        let tokens: Vec<u64> =
            self.clients.iter().filter(|(_, client)| client.attached).map(|(&token, _)| token).collect();
        for token in tokens {
            let mut message = Vec::with_capacity(bytes.len() + 1);
            message.push(kind);
            message.extend_from_slice(bytes);
            self.send(token, message);
        }
    }

    /// Tells those who wait how it ended. A foreground that sent stdin has no more say over the next run.
    pub(super) fn tell_exit(&mut self) {
        let tokens: Vec<u64> =
            self.clients.iter().filter(|(_, client)| client.waits).map(|(&token, _)| token).collect();
        for token in tokens {
            self.send_exit(token);
            if let Some(client) = self.clients.get_mut(&token) {
                (client.waits, client.attached) = (false, false);
            }
        }
    }

    /// The payload has taken stdin: those who had to wait may go on.
    pub(super) fn watch_feeders(&self) {
        for (&token, _) in self.clients.iter().filter(|(_, client)| client.feeds) {
            self.watch_client(token);
        }
    }

    fn watch_client(&self, token: u64) {
        if let Some(client) = self.clients.get(&token) {
            let full = client.feeds && self.streams.queue.len() >= STDIN_LIMIT;
            let mut flags = if full { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
            flags.set(EpollFlags::EPOLLOUT, client.has_more());
            let _ = self.epoll.modify(&client.socket, &mut EpollEvent::new(flags, token));
        }
    }

    fn drop_client(&mut self, token: u64) {
        if let Some(client) = self.clients.remove(&token) {
            let _ = self.epoll.delete(&client.socket);
            let others = self.clients.values().any(|other| other.feeds);
            // The one who fed stdin has gone without closing it: killed, or detached from a pipe. A terminal stays.
            if client.feeds && client.foreground && !others && self.record.config.stdin_once {
                self.close_stdin();
            }
        }
        self.hold_or_go_on();
    }

    /// `stop`: the signal now, SIGKILL when patience ends.
    /// `manually`: by the user, so that no boot starts it again.
    pub(super) fn stop(&mut self, signal: i32, timeout: i64, manually: bool) -> Result<()> {
        self.stopping = true;
        self.status.manually_stopped = manually;
        match self.phase {
            Phase::Running => {
                self.publish();
                self.thaw();
                self.signal(signal);
                self.tell_kill(signal);
                let patience = u64::try_from(timeout).ok();
                self.kill_at = patience.map(|seconds| Instant::now() + Duration::from_secs(seconds));
                Ok(())
            }
            Phase::Ready => {
                // There is no program yet that could take any other.
                self.signal(libc::SIGKILL);
                Ok(())
            }
            Phase::Waiting(_) => self.finish(),
            Phase::Over => Ok(()),
        }
    }

    /// `kill`: a signal that means "stop" also cancels the restart policy.
    fn user_signal(&mut self, number: i32) -> Result<()> {
        if number == libc::SIGKILL || number == libc::SIGTERM || number == self.stop_signal() {
            self.stopping = true;
            self.status.manually_stopped = true;
            self.publish();
        }
        if let Phase::Waiting(_) = self.phase {
            return self.finish();
        }
        if number == libc::SIGKILL {
            self.thaw();
        }
        self.signal(number);
        self.tell_kill(number);
        Ok(())
    }

    /// A signal was sent because somebody asked for it.
    pub(super) fn tell_kill(&self, number: i32) {
        events::container(&self.store, &self.record, "kill", &[("signal", &number.to_string())]);
    }

    /// Sends a signal to the payload's first process.
    pub(super) fn signal(&self, number: i32) {
        if let Some(payload) = &self.payload {
            let _ = sys::pidfd::send_signal(payload, number);
        }
    }

    /// A frozen process does not even die.
    pub(super) fn thaw(&mut self) {
        if self.status.state == State::Paused {
            self.resume();
        }
    }

    /// Thaws the container, also where nobody has told us that it is frozen.
    pub(super) fn resume(&mut self) {
        let _ = tools::run(tools::runtime(&self.store, &self.record).args(["resume", &self.record.id]));
        self.status.state = State::Running;
        self.publish();
    }
}
