//! One small process per container: starts the payload, pumps its output, answers the command line, starts it again
//! by its policy, and clears away. One thread, one epoll, no wake-up while nothing happens.

mod clients;
mod ending;
mod health;
mod launch;
mod memory;
mod output;
mod policy;
mod streams;

pub use launch::{classify, logged_error};
pub use policy::wants_restart;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use contracts::atomic;
use contracts::container::{Container, State, Status};
use contracts::exit::Exit;
use contracts::process::Process;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::{Deserialize, Serialize};

use crate::container::Store;
use crate::log::Sink;
use crate::oom;

const SIGNALS: u64 = 0;
const LISTENER: u64 = 1;
const STDOUT: u64 = 2;
const STDERR: u64 = 3;
const STDIN: u64 = 4;
const ADOPTED: u64 = 5;
const HEALTH: u64 = 6;
const LOG: u64 = 7;
const MEMORY: u64 = 8;
/// How long the last lines are offered to a log that does not take them, after the payload has ended.
const LAST_LINES: Duration = Duration::from_secs(60);
/// Nobody needs so long to die.
const OVERDUE: Duration = Duration::from_secs(2);
/// After so long without an event the memory that events needed is let go.
const QUIET: Duration = Duration::from_secs(2);
/// Clients count up from here.
const CLIENTS: u64 = 16;

/// The supervisor's one line.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answer {
    /// `None` when the payload runs.
    pub error: Option<String>,
    /// The exit code that the error stands for.
    #[serde(default)]
    pub code: i32,
}

/// What the payload is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// All but the program is there; a client starts it.
    Ready,
    Running,
    /// The policy starts it again at this time.
    Waiting(Instant),
    /// All done but the last bytes to clients.
    Over,
}

struct Supervisor {
    store: Store,
    record: Container,
    status: Status,
    log: Sink,
    /// See [`crate::log::buffer`].
    log_buffer: Option<usize>,
    epoll: Epoll,
    signals: SignalFd,
    listener: OwnedFd,
    clients: BTreeMap<u64, clients::Client>,
    next_client: u64,
    streams: streams::Streams,
    phase: Phase,
    backoff: policy::Backoff,
    started: Instant,
    /// The payload's handle: signals cannot reach a recycled pid.
    payload: Option<OwnedFd>,
    /// When a stop loses patience.
    kill_at: Option<Instant>,
    /// That has come: SIGKILL was sent.
    killed: bool,
    /// The policy does not apply to this end.
    stopping: bool,
    /// When the last lines are given up.
    lines_until: Option<Instant>,
    /// Start again whatever the policy: a failed health check asked for it.
    restart_once: bool,
    health: Option<health::Check>,
    /// Tells of processes killed for memory, where there is a limit.
    memory: Option<oom::Watcher>,
    /// The images of a checkpoint, from which the next start goes on.
    images: Option<PathBuf>,
    /// What can be let go of while nothing happens.
    text: Option<sys::memory::Text>,
    /// When nothing will have happened for a while.
    quiet_at: Option<Instant>,
}

/// `shim supervise ID [--adopt|--revive|--restore DIR|--init]`: answers with one line on stdout, then goes on alone.
pub fn main(id: &str, flag: &str, value: &str) -> Exit {
    let started = Supervisor::open(id).and_then(|mut supervisor| {
        match flag {
            "--adopt" => supervisor.adopt()?,
            "--init" => {
                supervisor.status.restart_count = 0;
                supervisor.inherit_client();
                supervisor.make_ready()?;
            }
            "--revive" => supervisor.first_start()?,
            _ => {
                supervisor.images = (flag == "--restore").then(|| value.into());
                supervisor.status.restart_count = 0;
                supervisor.first_start()?;
            }
        }
        Ok(supervisor)
    });
    let (answer, supervisor) = match started {
        Ok(supervisor) => (Answer { error: None, code: 0 }, Some(supervisor)),
        Err(err) => {
            let code = i32::from(Exit::before_payload(&err).code());
            (Answer { error: Some(contracts::report::one_line(&err)), code }, None)
        }
    };
    let mut line = serde_json::to_vec(&answer).unwrap_or_default();
    line.push(b'\n');
    let _ = io::stdout().write_all(&line);
    let Some(mut supervisor) = supervisor else { return Exit::Failed };
    // The line was all; whoever reads our stdout to its end must not wait for the container's.
    if let Ok(null) = std::fs::File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stdin(&null);
    }
    // Most of what a start needs is not needed again.
    supervisor.text = sys::memory::Text::find().ok();
    match supervisor.run() {
        Ok(()) => Exit::Ok,
        Err(_) => Exit::Failed,
    }
}

impl Supervisor {
    fn open(id: &str) -> Result<Self> {
        // Before any descriptor of ours has one of these numbers. See `container::start`.
        let given = (4..7).map_while(|number| sys::inherited::take(number).ok()).collect();
        // A leader of its process group cannot: then the group is enough.
        let _ = nix::unistd::setsid();
        nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().context("block signals")?;
        let signals =
            SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")?;
        let store = Store::open();
        let lock =
            sys::inherited::take(3).context("the container's lock (`shim start` is what starts it)")?;
        let record = store.load(id)?;
        let mut status =
            atomic::read_json::<Status>(&store.live(id).join("status.json"))?.unwrap_or_default();
        status.owner = Some(Process::current().context("read /proc/self/stat")?);
        // From here on whoever finds us gone cleans up after us.
        store.save_live(id, &status)?;
        drop(lock);
        let log = Sink::open(&store, &record)?;
        let log_buffer = crate::log::buffer(&record.host_config.log_config)?;
        let listener = sys::seqpacket::listen(&store.live(id), "ctl").context("listen for clients")?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        if let Some(fd) = log.watched() {
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, LOG))?;
        }
        Ok(Self {
            health: health::Check::of(&record),
            store,
            record,
            status,
            log,
            log_buffer,
            epoll,
            signals,
            listener,
            clients: BTreeMap::new(),
            next_client: CLIENTS,
            streams: streams::Streams::given(given),
            phase: Phase::Over,
            backoff: policy::Backoff::default(),
            started: Instant::now(),
            payload: None,
            kill_at: None,
            killed: false,
            stopping: false,
            lines_until: None,
            restart_once: false,
            memory: None,
            images: None,
            text: None,
            quiet_at: Some(Instant::now()),
        })
    }

    fn first_start(&mut self) -> Result<()> {
        self.inherit_client();
        self.status.manually_stopped = false;
        self.launch()?;
        if !self.record.host_config.auto_remove {
            // So that a reboot is noticed: this file says "running", and nobody runs.
            self.store.save_kept(&self.record.id, &self.status)?;
        }
        Ok(())
    }

    /// The connection that came as stdin: the foreground command, attached before the first byte.
    fn inherit_client(&mut self) {
        let stdin = io::stdin();
        if let Ok(fd) = stdin.as_fd().try_clone_to_owned()
            && nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::SockType).is_ok()
        {
            self.add_client(fd, true);
        }
    }

    fn run(&mut self) -> Result<()> {
        let mut events = [EpollEvent::empty(); 32];
        while self.phase != Phase::Over
            || self.clients.values().any(clients::Client::has_more)
            || self.has_last_lines()
        {
            if self.quiet_at.is_some_and(|at| at <= Instant::now()) {
                self.rest();
            }
            let timeout = self.timeout();
            if let Some(text) = self.text.as_ref().filter(|_| self.quiet_at.is_none()) {
                // Last of all: what comes after this is in memory while we wait.
                text.forget();
            }
            let count = match self.epoll.wait(&mut events, timeout) {
                Err(Errno::EINTR) => continue,
                other => other.context("epoll_wait")?,
            };
            if count > 0 {
                self.quiet_at = Some(Instant::now() + QUIET);
            }
            for event in &events[..count] {
                self.handle(event.data(), event.events())?;
            }
            self.timers()?;
        }
        Ok(())
    }

    /// Nothing has happened for a while: no memory for it is kept. There is one wake-up for this, and then none.
    fn rest(&mut self) {
        self.quiet_at = None;
        self.streams.rest();
        self.log.rest();
    }

    fn handle(&mut self, token: u64, flags: EpollFlags) -> Result<()> {
        match token {
            SIGNALS => self.on_signals()?,
            LISTENER => self.accept(),
            STDOUT | STDERR => {
                // A terminal is one descriptor both ways.
                if flags.contains(EpollFlags::EPOLLOUT) {
                    self.write_stdin();
                    self.watch_feeders();
                }
                if flags != EpollFlags::EPOLLOUT {
                    self.read_output(token == STDOUT, flags.contains(EpollFlags::EPOLLHUP));
                }
            }
            STDIN => {
                self.write_stdin();
                self.watch_feeders();
            }
            ADOPTED => self.adopted_end()?,
            HEALTH => self.health_output(),
            LOG => self.log_ready(),
            MEMORY => self.memory_event(),
            client => self.on_client(client, flags)?,
        }
        Ok(())
    }

    fn on_signals(&mut self) -> Result<()> {
        let mut reap = false;
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo) {
                Ok(number) if number == Signal::SIGCHLD as i32 => reap = true,
                // Asked to go (a shutdown): the container is stopped as `stop` would, but not by its user: what was to
                // run unless stopped is started again at the next boot.
                Ok(_) => self.stop(self.stop_signal(), self.stop_timeout(), self.status.manually_stopped)?,
                Err(_) => {}
            }
        }
        if reap { self.reap() } else { Ok(()) }
    }

    fn timeout(&self) -> EpollTimeout {
        let restart = if let Phase::Waiting(at) = self.phase { Some(at) } else { None };
        let health = self.health.as_ref().filter(|_| self.status.state == State::Running);
        let next = [
            restart,
            self.kill_at,
            health.and_then(health::Check::next),
            self.streams.retry_at,
            self.log.deadline(),
            self.patience_ends(),
            self.quiet_at,
        ];
        let Some(next) = next.into_iter().flatten().min() else { return EpollTimeout::NONE };
        // Rounded up: a timer must not be early, which would spin.
        let wait = next.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    fn timers(&mut self) -> Result<()> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill(now);
        }
        if let Phase::Waiting(at) = self.phase
            && at <= now
        {
            self.start_again()?;
        }
        if self.streams.retry_at.is_some_and(|at| at <= now) {
            self.retry_log();
        }
        if self.log.deadline().is_some_and(|at| at <= now) {
            self.log_ready();
        }
        self.lose_patience(now);
        self.health_timer(now);
        Ok(())
    }

    /// The patience of a stop is over. Who does not even die of SIGKILL is frozen by somebody who was killed before he could
    /// say so, or by no command of ours.
    fn kill(&mut self, now: Instant) {
        if std::mem::replace(&mut self.killed, true) {
            self.resume();
        } else {
            self.thaw();
            self.tell_kill(libc::SIGKILL);
        }
        self.kill_at = Some(now + OVERDUE);
        self.signal(libc::SIGKILL);
    }

    /// Writes the status where readers look; a tmpfs that is full must not end the container.
    fn publish(&self) {
        let _ = self.store.save_live(&self.record.id, &self.status);
    }

    fn stop_signal(&self) -> i32 {
        let text = &self.record.config.stop_signal;
        if text.is_empty() {
            libc::SIGTERM
        } else {
            crate::request::signal::parse(text).unwrap_or(libc::SIGTERM)
        }
    }

    fn stop_timeout(&self) -> i64 {
        self.record.config.stop_timeout.unwrap_or(10)
    }
}
