//! From the first descriptor to the exit file: one epoll.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgid, read, write};

use super::cli::Options;
use super::clients::{Clients, Sent};
use super::create::{self, Payload, bundle};
use super::ending::{self, Ends};
use super::fifo::Fifo;
use super::log::{LONGEST, Logs};
use super::notify::Notify;
use super::pipes;
use crate::cgroup::Cgroup;
use crate::log::Stream;
use crate::oom::Watcher;

const SIGNALS: u64 = 0;
const LISTENER: u64 = 1;
const STDOUT: u64 = 2;
const STDERR: u64 = 3;
const STDIN: u64 = 4;
const CONTROL: u64 = 5;
const WINDOW: u64 = 6;
const NOTIFY: u64 = 7;
const OOM: u64 = 8;
/// Most bytes of stdin kept for a payload that does not read.
const STDIN_LIMIT: usize = 256 << 10;

/// A payload that has much to say gets a pipe and a buffer of so many bytes.
const FLOOD: usize = 256 << 10;

/// One container, or one process in it.
pub struct Monitor<'a> {
    options: &'a Options,
    ends: &'a mut Ends,
    logs: Logs,
    epoll: Epoll,
    signals: SignalFd,
    clients: Option<Clients>,
    control: Option<Fifo>,
    window: Option<Fifo>,
    notify: Option<Notify>,
    payload: Payload,
    ooms: Watcher,
    queue: VecDeque<u8>,
    closing: bool,
    full: bool,
    held: bool,
    /// The large buffer, while there is use for it.
    large: Vec<u8>,
    deadline: Option<Instant>,
    timed_out: bool,
}

impl<'a> Monitor<'a> {
    /// Everything up to the running payload, and the message that it runs.
    pub fn start(options: &'a Options, ends: &'a mut Ends) -> Result<Self> {
        ends.sync = pipes::take("_OCI_SYNCPIPE")?;
        ends.key = match (options.api_version, options.exec) {
            (true, _) => "data",
            (false, true) => "exit_code",
            (false, false) => "pid",
        };
        let mut start = pipes::take("_OCI_STARTPIPE")?;
        let mut attach = if options.exec_attach {
            Some(pipes::take("_OCI_ATTACHPIPE")?.context("_OCI_ATTACHPIPE is not set")?)
        } else {
            None
        };
        if !options.passthrough() {
            let null = File::options().read(true).write(true).open("/dev/null").context("open /dev/null")?;
            nix::unistd::dup2_stdin(&null)?;
            nix::unistd::dup2_stdout(&null)?;
            nix::unistd::dup2_stderr(&null)?;
        }
        let _ = nix::unistd::setsid();
        nix::sys::prctl::set_child_subreaper(true).context("become a subreaper")?;
        let signals = take_signals()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?;
        epoll.add(&signals, input(SIGNALS))?;
        let mut monitor = Self {
            logs: Logs::open(options)?,
            options,
            ends,
            epoll,
            signals,
            clients: None,
            control: None,
            window: None,
            notify: None,
            payload: Payload::default(),
            ooms: Watcher::default(),
            queue: VecDeque::new(),
            closing: false,
            full: false,
            held: false,
            large: Vec::new(),
            deadline: None,
            timed_out: false,
        };
        monitor.open_control()?;
        pipes::tell(&mut attach, "data", 0, None);
        // Whoever attaches to an exec says when it has: then no output can be missed.
        if let (true, Some(start)) = (options.exec_attach, &mut start) {
            pipes::wait_for_word(start)?;
        }
        drop(start);
        monitor.payload = create::launch(options)?;
        monitor.began()?;
        Ok(monitor)
    }

    /// The files by which others reach us; CRI-O's legacy exec has none.
    fn open_control(&mut self) -> Result<()> {
        let options = self.options;
        let bundle = bundle(options);
        if let Some(host) = &options.sdnotify_socket {
            let notify = Notify::listen(&bundle, host)?;
            self.epoll.add(notify.fd(), input(NOTIFY))?;
            self.notify = Some(notify);
        }
        if (options.bundle.is_none() && options.exec) || options.passthrough() {
            return Ok(());
        }
        let clients = Clients::listen(options)?;
        self.epoll.add(clients.listener(), input(LISTENER))?;
        self.clients = Some(clients);
        let control = Fifo::make(&bundle.join("ctl"))?;
        let window = Fifo::make(&bundle.join("winsz"))?;
        self.epoll.add(&control.file, input(CONTROL))?;
        self.epoll.add(&window.file, input(WINDOW))?;
        (self.control, self.window) = (Some(control), Some(window));
        Ok(())
    }

    fn began(&mut self) -> Result<()> {
        let (options, payload) = (self.options, &self.payload);
        if !options.exec || options.api_version {
            pipes::tell(&mut self.ends.sync, self.ends.key, payload.pid.into(), None);
        }
        if let Some(cgroup) = Cgroup::of(payload.pid).filter(|_| !options.exec) {
            // Without a memory controller there is nothing to hear of.
            let _ = self.ooms.add(&self.epoll, OOM, &options.cid, &cgroup);
        }
        if let Some(terminal) = &payload.terminal {
            self.epoll.add(terminal, input(STDOUT))?;
        }
        if let Some(stdout) = &payload.stdout {
            self.epoll.add(stdout, input(STDOUT))?;
        }
        if let Some(stderr) = &payload.stderr {
            self.epoll.add(stderr, input(STDERR))?;
        }
        if let Some(stdin) = &payload.stdin {
            sys::pipe::set_nonblocking(stdin).context("set a descriptor's flags")?;
        }
        if options.timeout > 0 {
            self.deadline = Some(Instant::now() + Duration::from_secs(options.timeout));
        }
        // Those who came while the runtime worked are there before the first byte.
        if let Some(clients) = &mut self.clients {
            clients.accept(&self.epoll);
        }
        // Most of what a start needs is not needed again.
        let _ = sys::memory::forget_text();
        Ok(())
    }

    /// Until the payload ends; its code.
    pub fn run(mut self) -> Result<u8> {
        let code = loop {
            if let Some(code) = self.step()? {
                break code;
            }
        };
        while self.read_some(true) {}
        while self.read_some(false) {}
        self.logs.finish(!self.options.no_sync_log);
        if let Some(clients) = self.clients.take() {
            clients.close(&self.epoll);
        }
        let code = if self.timed_out { -1 } else { code };
        // It may have been killed in the very moment in which it ended.
        if self.ooms.on_ready(OOM).is_some() {
            ending::write_oom(self.options);
        }
        self.ends.close_leaked();
        ending::write_exit_files(self.options, code);
        if self.options.exec {
            let why = self.timed_out.then_some("command timed out");
            pipes::tell(&mut self.ends.sync, self.ends.key, code.into(), why);
        }
        // Said all; an error from here on is nobody's.
        self.ends.sync = None;
        Ok(u8::try_from(code).unwrap_or(255))
    }

    fn step(&mut self) -> Result<Option<i32>> {
        let mut events = [EpollEvent::empty(); 16];
        let count = match self.epoll.wait(&mut events, self.wait()) {
            Err(Errno::EINTR) => 0,
            other => other.context("epoll_wait")?,
        };
        let mut code = None;
        for event in &events[..count] {
            match event.data() {
                SIGNALS => code = self.on_signals()?,
                LISTENER => {
                    if let Some(clients) = &mut self.clients {
                        clients.accept(&self.epoll);
                    }
                }
                STDOUT | STDERR => {
                    if event.events().contains(EpollFlags::EPOLLOUT) {
                        self.write_stdin();
                    }
                    if event.events() != EpollFlags::EPOLLOUT {
                        self.read_some(event.data() == STDOUT);
                    }
                }
                STDIN => self.write_stdin(),
                CONTROL => self.on_control(),
                WINDOW => self.on_window(),
                OOM => {
                    if self.ooms.on_ready(OOM).is_some() {
                        ending::write_oom(self.options);
                    }
                }
                NOTIFY => self.notify.iter().for_each(Notify::pass_on),
                token => self.on_client(token, event.events()),
            }
        }
        self.timers();
        Ok(code)
    }

    fn wait(&self) -> EpollTimeout {
        let late = self.clients.as_ref().and_then(Clients::behind);
        let Some(next) = [self.deadline, late].into_iter().flatten().min() else { return EpollTimeout::NONE };
        let wait = next.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    fn timers(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.timed_out = true;
            let pid = Pid::from_raw(self.payload.pid);
            // The whole group; but never everybody's.
            let target = match getpgid(Some(pid)) {
                Ok(group) if group.as_raw() > 1 => Pid::from_raw(-group.as_raw()),
                _ => pid,
            };
            let _ = kill(target, Signal::SIGKILL);
        }
        if let Some(clients) = &mut self.clients {
            clients.lose_patience(now);
        }
        self.hold_or_go_on();
    }

    /// Signals to us are the container's; a child's end is perhaps the payload's.
    fn on_signals(&mut self) -> Result<Option<i32>> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            if let Some(signal) = signal.filter(|signal| *signal != Signal::SIGCHLD) {
                let _ = kill(Pid::from_raw(self.payload.pid), signal);
            }
        }
        let mut code = None;
        loop {
            let (pid, ended) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(code),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(err) => return Err(err.into()),
            };
            if pid.as_raw() == self.payload.pid {
                code = Some(ended);
            }
        }
    }

    /// False at the end, or where nothing is there now.
    fn read_some(&mut self, first: bool) -> bool {
        let payload = &mut self.payload;
        let fd = if first {
            payload.terminal.as_ref().or(payload.stdout.as_ref())
        } else {
            payload.stderr.as_ref()
        };
        let Some(fd) = fd else { return false };
        // Read in large pieces while the payload has as much to say.
        let (mut small, large) = ([0; LONGEST], &mut self.large);
        let buffer = if large.is_empty() { &mut small[..] } else { &mut large[..] };
        let flood = buffer.len();
        match read(fd, buffer) {
            Err(Errno::EAGAIN) => false,
            Err(Errno::EINTR) => true,
            Ok(0) | Err(_) => {
                let _ = self.epoll.delete(fd);
                if first {
                    (payload.terminal, payload.stdout) = (None, None);
                } else {
                    payload.stderr = None;
                }
                false
            }
            Ok(length) => {
                let stream = if first { Stream::Stdout } else { Stream::Stderr };
                self.logs.write(stream, &buffer[..length]);
                if let Some(clients) = &mut self.clients {
                    for piece in buffer[..length].chunks(LONGEST) {
                        clients.show(&self.epoll, stream, piece);
                    }
                }
                if length < LONGEST {
                    *large = Vec::new();
                } else if length == flood && large.is_empty() {
                    *large = vec![0; FLOOD];
                    // Where the kernel refuses, the pipe stays as small as it is.
                    let size = i32::try_from(FLOOD).unwrap_or(i32::MAX);
                    let _ = fcntl(fd, FcntlArg::F_SETPIPE_SZ(size));
                }
                true
            }
        }
    }

    /// While an attached client is behind, the output waits in its pipe.
    fn hold_or_go_on(&mut self) {
        let hold = self.clients.as_ref().is_some_and(|clients| clients.behind().is_some());
        if hold == self.held {
            return;
        }
        self.held = hold;
        let flags = if hold { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        let payload = &self.payload;
        for (fd, token) in [(&payload.terminal, STDOUT), (&payload.stdout, STDOUT), (&payload.stderr, STDERR)]
        {
            if let Some(fd) = fd {
                let _ = self.epoll.modify(fd, &mut EpollEvent::new(flags, token));
            }
        }
    }

    fn on_client(&mut self, token: u64, flags: EpollFlags) {
        let Some(clients) = &mut self.clients else { return };
        match clients.handle(&self.epoll, token, flags, !self.full) {
            Sent::Bytes(bytes) if self.payload.terminal.is_some() || self.payload.stdin.is_some() => {
                self.queue.extend(bytes);
                self.write_stdin();
            }
            Sent::End if self.options.stdin && !self.options.leave_stdin_open => {
                self.closing = true;
                self.write_stdin();
            }
            _ => {}
        }
    }

    /// Writes what the payload takes; watches for room where it takes less, and reads no more then.
    fn write_stdin(&mut self) {
        let payload = &mut self.payload;
        let Some(fd) = payload.terminal.as_ref().or(payload.stdin.as_ref()) else { return };
        while !self.queue.is_empty() {
            match write(fd, self.queue.as_slices().0) {
                Ok(length) => drop(self.queue.drain(..length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    self.queue.clear();
                    self.closing = true;
                }
            }
        }
        let wants = !self.queue.is_empty();
        if payload.terminal.is_some() {
            let mut flags = if self.held { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
            flags.set(EpollFlags::EPOLLOUT, wants);
            let _ = self.epoll.modify(fd, &mut EpollEvent::new(flags, STDOUT));
        } else {
            let _ = self.epoll.delete(fd);
            if wants {
                let _ = self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLOUT, STDIN));
            } else if self.closing {
                payload.stdin = None;
            }
        }
        let full = self.queue.len() > STDIN_LIMIT;
        if full != self.full {
            self.full = full;
            if let Some(clients) = &mut self.clients {
                clients.listen_to_stdin(&self.epoll, !full);
            }
        }
    }

    /// `1 HEIGHT WIDTH` resizes, `2 …` opens the logs again.
    fn on_control(&mut self) {
        for line in self.control.as_mut().map(Fifo::lines).unwrap_or_default() {
            // Longer than conmon's buffer: no command.
            if line.len() >= 200 {
                continue;
            }
            let numbers: Vec<Option<u16>> = line.split(' ').map(|word| word.parse().ok()).collect();
            match numbers[..] {
                [Some(1), Some(rows), Some(columns), ..] => self.resize(rows, columns),
                [Some(2), Some(_), Some(_), ..] => self.logs.reopen(),
                _ => {}
            }
        }
    }

    fn on_window(&mut self) {
        for line in self.window.as_mut().map(Fifo::lines).unwrap_or_default() {
            let size = line.split_once(' ').map(|(rows, columns)| (rows.parse(), columns.parse()));
            if let Some((Ok(rows), Ok(columns))) = size {
                self.resize(rows, columns);
            }
        }
    }

    fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.payload.terminal
            && rows <= 1000
            && columns <= 1000
        {
            let _ = sys::pty::set_size(terminal.as_fd(), (rows, columns));
        }
    }
}

fn take_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        set.add(signal);
    }
    set.thread_block().context("block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).context("signalfd")
}

fn input(token: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN, token)
}
