//! Events to containerd, in the order in which they happened: one at a time, the next when it has been taken.
//!
//! containerd may be restarting: an event is tried again for some minutes, with longer and longer breaks.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollFlags};
use prost::Message as _;
use sys::command::with_clean_signals;

use super::cli::Flags;
use super::frame::{self, Next};
use super::proto::events::{Envelope, Event, ForwardRequest};
use super::proto::ttrpc::{Request, Response};
use super::proto::{Any, Timestamp};
use super::wire::Wire;

/// Attempts until an event is given up.
const ATTEMPTS: u32 = 40;
/// Events kept for a containerd that is away; the oldest go first.
const KEPT: usize = 2048;

struct Waiting {
    envelope: Envelope,
    attempts: u32,
}

enum Way {
    /// containerd's socket for events.
    Socket(PathBuf),
    /// A program of containerd's, executed for each event.
    Program(PathBuf),
}

pub struct Publisher {
    way: Way,
    /// containerd's main socket, for the program.
    address: String,
    namespace: String,
    token: u64,
    queue: VecDeque<Waiting>,
    wire: Option<Wire>,
    stream: u32,
    /// The first of the queue has been sent and not been answered.
    in_flight: bool,
    /// The program at work.
    child: Option<i32>,
    retry_at: Option<Instant>,
}

impl Publisher {
    pub fn new(flags: &Flags, token: u64) -> Self {
        let way = match std::env::var("TTRPC_ADDRESS") {
            Ok(address) if !address.is_empty() => {
                Way::Socket(address.strip_prefix("unix://").unwrap_or(&address).into())
            }
            _ => Way::Program(flags.publish_binary.clone()),
        };
        Self {
            way,
            address: flags.address.clone(),
            namespace: flags.namespace.clone(),
            token,
            queue: VecDeque::new(),
            wire: None,
            stream: 1,
            in_flight: false,
            child: None,
            retry_at: None,
        }
    }

    /// Queues an event that happens now.
    pub fn publish<E: Event>(&mut self, epoll: &Epoll, event: &E) {
        let envelope = Envelope {
            timestamp: Some(Timestamp::now()),
            namespace: self.namespace.clone(),
            topic: E::TOPIC.to_owned(),
            event: Some(Any { type_url: E::NAME.to_owned(), value: event.encode_to_vec() }),
        };
        if self.queue.len() >= KEPT {
            let first = usize::from(self.in_flight);
            self.queue.remove(first);
        }
        self.queue.push_back(Waiting { envelope, attempts: 0 });
        self.go_on(epoll);
    }

    /// Whether everything has been taken or given up.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// When to call [`Self::go_on`] again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Sends the next event if nothing stands against it.
    pub fn go_on(&mut self, epoll: &Epoll) {
        if self.in_flight || self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.retry_at = None;
        let Some(first) = self.queue.front() else { return };
        let sent = match &self.way {
            Way::Socket(path) => {
                if self.wire.is_none() {
                    self.wire = UnixStream::connect(path)
                        .and_then(|stream| Wire::new(stream, epoll, self.token))
                        .ok();
                    self.stream = 1;
                }
                let request = Request {
                    service: "containerd.services.events.ttrpc.v1.Events".into(),
                    method: "Forward".into(),
                    payload: ForwardRequest { envelope: Some(first.envelope.clone()) }.encode_to_vec(),
                    ..Request::default()
                };
                self.wire.as_mut().is_some_and(|wire| {
                    wire.send(self.stream, frame::REQUEST, &request.encode_to_vec());
                    wire.flush(epoll)
                })
            }
            Way::Program(program) => {
                self.child = execute(program, &self.address, &first.envelope).ok();
                self.child.is_some()
            }
        };
        if sent {
            self.in_flight = true;
        } else {
            self.failed();
        }
    }

    fn failed(&mut self) {
        self.wire = None;
        self.in_flight = false;
        let Some(first) = self.queue.front_mut() else { return };
        first.attempts += 1;
        let wait = u64::from(first.attempts.min(5));
        if first.attempts >= ATTEMPTS {
            self.queue.pop_front();
        }
        self.retry_at = (!self.queue.is_empty()).then(|| Instant::now() + Duration::from_secs(wait));
    }

    fn taken(&mut self) {
        self.in_flight = false;
        self.queue.pop_front();
    }

    /// Something came on the connection, or it can be written.
    pub fn on_ready(&mut self, epoll: &Epoll, flags: EpollFlags) {
        let Some(wire) = &mut self.wire else { return };
        let mut alive = !flags.contains(EpollFlags::EPOLLOUT) || wire.flush(epoll);
        if flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            alive &= wire.fill();
        }
        let mut answered = None;
        while let Next::Frame(frame) = wire.next() {
            if frame.kind == frame::RESPONSE && frame.stream == self.stream {
                answered = Some(Response::decode(frame.body.as_slice()));
            }
        }
        match answered {
            // What containerd refuses it would refuse again.
            Some(_) if self.in_flight => {
                self.stream = self.stream.wrapping_add(2);
                self.taken();
            }
            _ => {}
        }
        if !alive {
            self.wire = None;
            if self.in_flight {
                self.failed();
            }
        }
        self.go_on(epoll);
    }

    /// A child has ended; whether it was ours.
    pub fn on_child(&mut self, epoll: &Epoll, pid: i32, code: u32) -> bool {
        if self.child != Some(pid) {
            return false;
        }
        self.child = None;
        if code == 0 {
            self.taken()
        } else {
            self.failed()
        }
        self.go_on(epoll);
        true
    }
}

fn execute(program: &std::path::Path, address: &str, envelope: &Envelope) -> std::io::Result<i32> {
    let mut command = Command::new(program);
    command.args(["--address", address, "publish", "--topic", &envelope.topic]);
    command.args(["--namespace", &envelope.namespace]).stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = with_clean_signals(&mut command).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // An event is smaller than a pipe: this does not wait.
        let bytes = envelope.event.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
        let _ = stdin.write_all(&bytes);
    }
    i32::try_from(child.id()).map_err(std::io::Error::other)
}
