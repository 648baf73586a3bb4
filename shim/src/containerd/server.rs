//! The process that stays: one epoll over clients, children, streams, events and out-of-memory notices.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::call::Caller;
use super::cli::Flags;
use super::events::Publisher;
use super::job::Job;
use super::pod::Sandbox;
use super::pump::Pump;
use super::task::{Container, Exit};
use super::wire::Wire;
use crate::oom::Watcher;

const SIGNALS: u64 = 0;
const LISTENER: u64 = 1;
const EVENTS: u64 = 2;
/// Everything else counts up from here, in steps of [`STEP`]: what a token is, its last bits say.
const FIRST: u64 = 16;
const STEP: u64 = 4;
/// One more than the pump's token is the pump's target.
const PUMP: u64 = 0;
const PUMP_TARGET: u64 = 1;
const CONNECTION: u64 = 2;
const OOM: u64 = 3;
/// How long the last events may take once the shim is asked to go.
const FAREWELL: Duration = Duration::from_secs(5);
/// After this long without a start of anything the text that starts needed is given back.
const REST: Duration = Duration::from_secs(2);

pub struct Server {
    pub flags: Flags,
    pub epoll: Epoll,
    signals: SignalFd,
    listener: UnixListener,
    serial: u64,
    pub connections: BTreeMap<u64, Wire>,
    pub containers: BTreeMap<String, Container>,
    /// Runtimes at work, by pid.
    pub jobs: BTreeMap<i32, Job>,
    /// Ends of processes that a runtime at work may be about to name.
    pub early: BTreeMap<i32, Exit>,
    pub pumps: BTreeMap<u64, Pump>,
    pub events: Publisher,
    pub ooms: Watcher,
    pub sandbox: Sandbox,
    /// When to be gone at the latest.
    pub leaving: Option<Instant>,
    rest_at: Option<Instant>,
}

impl Server {
    /// Takes over the socket that came as stdin.
    pub fn open(flags: Flags) -> Result<Self> {
        let _ = nix::unistd::setsid();
        nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPIPE] {
            set.add(signal);
        }
        set.thread_block().context("block signals")?;
        let signals =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
        let listener: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().context("take the socket")?;
        let listener = UnixListener::from(listener);
        listener.set_nonblocking(true).context("take the socket")?;
        let null = std::fs::File::open("/dev/null").context("open /dev/null")?;
        nix::unistd::dup2_stdin(&null)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            events: Publisher::new(&flags, EVENTS),
            sandbox: Sandbox::default(),
            flags,
            epoll,
            signals,
            listener,
            serial: FIRST,
            connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            jobs: BTreeMap::new(),
            early: BTreeMap::new(),
            pumps: BTreeMap::new(),
            ooms: Watcher::default(),
            leaving: None,
            rest_at: Some(Instant::now() + REST),
        })
    }

    /// Serves until asked to go.
    pub fn run(mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 32];
        while !self.is_done() {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Err(Errno::EINTR) => continue,
                other => other.context("epoll_wait")?,
            };
            for event in &events[..count] {
                self.handle(event.data(), event.events());
            }
            self.timers();
        }
        // The name goes with the process: whoever comes next makes a new one.
        if let Some(path) = self.listener.local_addr().ok().and_then(|at| at.as_pathname().map(PathBuf::from))
        {
            let _ = std::fs::remove_file(path);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let Some(latest) = self.leaving else { return false };
        let said = self.events.is_idle() && self.connections.values().all(Wire::is_flushed);
        said || Instant::now() >= latest
    }

    /// Goes, once the last events and answers are out.
    pub fn leave(&mut self) {
        self.leaving.get_or_insert(Instant::now() + FAREWELL);
    }

    fn timeout(&self) -> EpollTimeout {
        let next = [self.events.retry_at(), self.leaving, self.rest_at].into_iter().flatten().min();
        let Some(next) = next else { return EpollTimeout::NONE };
        let wait = next.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    fn timers(&mut self) {
        let now = Instant::now();
        if self.events.retry_at().is_some_and(|at| at <= now) {
            self.events.go_on(&self.epoll);
        }
        if self.rest_at.is_some_and(|at| at <= now) {
            self.rest_at = None;
            let _ = sys::memory::forget_text();
        }
    }

    /// Something was started: rest later.
    pub fn worked(&mut self) {
        self.rest_at = Some(Instant::now() + REST);
    }

    fn handle(&mut self, token: u64, flags: EpollFlags) {
        match token {
            SIGNALS => self.on_signals(),
            LISTENER => self.accept(),
            EVENTS => self.events.on_ready(&self.epoll, flags),
            _ => match token % STEP {
                CONNECTION => self.on_client(token, flags),
                OOM => {
                    if let Some(container_id) = self.ooms.on_ready(token) {
                        let event = super::proto::events::TaskOOM { container_id };
                        self.events.publish(&self.epoll, &event);
                    }
                }
                PUMP_TARGET => self.on_pump(token - PUMP_TARGET),
                _ => self.on_pump(token),
            },
        }
    }

    fn on_pump(&mut self, token: u64) {
        if let Some(pump) = self.pumps.get_mut(&token)
            && !pump.go_on(&self.epoll)
        {
            self.end_pump(token);
        }
    }

    pub fn end_pump(&mut self, token: u64) {
        if let Some(pump) = self.pumps.remove(&token) {
            pump.end(&self.epoll);
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let token = self.token(CONNECTION);
            match Wire::new(stream, &self.epoll, token) {
                Ok(wire) => drop(self.connections.insert(token, wire)),
                Err(err) => complain("warning", &format!("accept a connection: {err}")),
            }
        }
    }

    fn on_client(&mut self, token: u64, flags: EpollFlags) {
        let Some(wire) = self.connections.get_mut(&token) else { return };
        let mut alive = !flags.contains(EpollFlags::EPOLLOUT) || wire.flush(&self.epoll);
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            alive &= wire.fill();
            self.serve(token);
        }
        if !alive {
            self.disconnect(token);
        }
    }

    /// A client that has gone waits for nothing.
    pub fn disconnect(&mut self, token: u64) {
        self.connections.remove(&token);
        let stays = |caller: &Caller| caller.connection != token;
        self.sandbox.waiters.retain(stays);
        for container in self.containers.values_mut() {
            container.init.waiters.retain(stays);
            container.execs.values_mut().for_each(|exec| exec.waiters.retain(stays));
        }
    }

    fn on_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => self.leave(),
                Ok(Ok(Signal::SIGCHLD)) => self.reap(),
                _ => {}
            }
        }
    }

    fn token(&mut self, kind: u64) -> u64 {
        self.serial += STEP;
        self.serial + kind
    }

    /// A number that nothing else here has.
    pub fn serial(&mut self) -> u64 {
        self.token(0)
    }

    pub fn pump_token(&mut self) -> u64 {
        self.token(PUMP)
    }

    pub fn oom_token(&mut self) -> u64 {
        self.token(OOM)
    }
}

/// A word for containerd's log: stderr, which leads there.
pub fn complain(level: &str, text: &str) {
    let line = format!("time=\"{}\" level={level} msg={text:?}\n", contracts::container::now());
    let _ = std::io::stderr().write_all(line.as_bytes());
}
