//! Logs that are kept elsewhere: lines wait in a queue until the receiver has taken them. A queue that is full refuses
//! more, so that the payload waits (or, in `mode=non-blocking`, the supervisor's own buffer fills); nothing that was
//! taken is thrown away because a receiver stalls or has gone for a while.

pub mod address;
pub mod fluentd;
pub mod gelf;
pub mod journald;
mod link;
pub mod msgpack;
mod relay;
mod source;
pub mod syslog;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use anyhow::{Result, bail};
use contracts::container::Container;
use jiff::Timestamp;

use super::json_file;
use super::lines::Splitter;
use super::{Stream, attributes};
use crate::container::Store;
pub use link::{Link, Message, Patience};
pub use source::Source;

/// Bytes that wait for the receiver before more is refused.
const LIMIT: usize = 256 << 10;

/// One line, or a part of a long one.
pub struct Line<'a> {
    pub stream: Stream,
    /// Without its newline.
    pub text: &'a [u8],
    pub time: Timestamp,
    pub part: Option<Part<'a>>,
}

/// Which part of a line longer than 16 KiB.
pub struct Part<'a> {
    /// The same for all its parts.
    pub id: &'a str,
    /// From 1.
    pub ordinal: u32,
    pub last: bool,
}

/// How a driver spells a line.
pub enum Encoder {
    Syslog(syslog::Encoder),
    Journald(journald::Encoder),
    Fluentd(fluentd::Encoder),
    Gelf(gelf::Encoder),
}

impl Encoder {
    fn encode(&mut self, line: &Line<'_>, out: &mut Vec<Message>) {
        match self {
            Self::Syslog(encoder) => encoder.encode(line, out),
            Self::Journald(encoder) => encoder.encode(line, out),
            Self::Fluentd(encoder) => encoder.encode(line, out),
            Self::Gelf(encoder) => encoder.encode(line, out),
        }
    }
}

/// What a driver brings: spelling, place, and how much trouble it takes.
pub struct Driver {
    pub encoder: Encoder,
    pub link: Link,
    /// Bytes that may wait; `None` for the usual.
    pub limit: Option<usize>,
    /// A full queue loses what comes, instead of refusing it.
    pub lossy: bool,
}

#[derive(Default)]
struct Assembly {
    splitter: Splitter,
    /// Of the long line being sent in parts.
    id: String,
    ordinal: u32,
}

/// An open remote log.
pub struct Writer {
    driver: Driver,
    queue: VecDeque<Message>,
    queued: usize,
    /// What `logs` reads.
    cache: Option<json_file::Writer>,
    stdout: Assembly,
    stderr: Assembly,
}

impl Writer {
    /// Connects, so that a missing receiver is known before the container starts.
    pub fn open(store: &Store, record: &Container) -> Result<Self> {
        let config = &record.host_config.log_config;
        let source = Source::of(record)?;
        let driver = match config.driver.as_str() {
            "syslog" => syslog::Options::read(config)?.open(&source),
            "journald" => journald::open(&source),
            "fluentd" => fluentd::Options::read(config)?.open(&source),
            _ => gelf::Options::read(config)?.open(&source),
        };
        let driver = driver.map_err(|err| err.context("failed to initialize logging driver"))?;
        let cache = match super::values::cache(config)? {
            Some(limits) => {
                Some(json_file::Writer::open(&store.log(&record.id), limits, &attributes::of(record)?)?)
            }
            None => None,
        };
        let (stdout, stderr) = Default::default();
        Ok(Self { driver, queue: VecDeque::new(), queued: 0, cache, stdout, stderr })
    }

    /// Takes what was read from `stream`, or nothing of it.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        let limit = self.driver.limit.unwrap_or(LIMIT);
        if self.queued >= limit {
            self.ready();
        }
        let full = self.queued >= limit;
        if full && !self.driver.lossy {
            bail!("the log's receiver is behind");
        }
        if let Some(cache) = &mut self.cache {
            // Only a help for `logs`: a full disk here is no reason to stop.
            let _ = cache.write(stream, bytes);
        }
        if !full {
            self.encode(stream, |splitter, each| {
                splitter.feed(bytes, |bytes, line| each(&bytes[line], false))
            });
        }
        self.ready();
        Ok(())
    }

    /// Queues the unfinished lines.
    pub fn flush(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.encode(stream, |splitter, each| splitter.finish(|bytes, line| each(&bytes[line], true)));
        }
        if let Some(cache) = &mut self.cache {
            let _ = cache.flush();
        }
        self.ready();
    }

    fn encode(&mut self, stream: Stream, feed: impl FnOnce(&mut Splitter, &mut dyn FnMut(&[u8], bool))) {
        let assembly = if stream == Stream::Stdout { &mut self.stdout } else { &mut self.stderr };
        let Assembly { splitter, id, ordinal } = assembly;
        let encoder = &mut self.driver.encoder;
        let time = Timestamp::now();
        let mut messages = Vec::new();
        feed(splitter, &mut |line, finishing| {
            let (text, whole) = line.strip_suffix(b"\n").map_or((line, finishing), |text| (text, true));
            if *ordinal == 0 && !whole {
                *id = source::random_id();
            }
            let part = (*ordinal > 0 || !whole).then(|| {
                *ordinal += 1;
                Part { id: id.as_str(), ordinal: *ordinal, last: whole }
            });
            encoder.encode(&Line { stream, text, time, part }, &mut messages);
            if whole {
                *ordinal = 0;
            }
        });
        let room = if self.driver.lossy { self.driver.limit } else { None };
        for message in messages {
            if room.is_some_and(|limit| self.queued >= limit) {
                break;
            }
            self.queued += message.bytes.len();
            self.queue.push_back(message);
        }
    }

    /// Sends what the receiver takes, and hears what it answers.
    pub fn ready(&mut self) {
        let given_up = self.driver.link.pump(&mut self.queue);
        if given_up {
            self.queue.clear();
        }
        self.queued = if self.queue.is_empty() { 0 } else { self.queue.iter().map(|m| m.bytes.len()).sum() };
        self.queued += self.driver.link.unanswered();
    }

    /// Readable when [`Self::ready`] has something to do.
    pub fn watched(&self) -> BorrowedFd<'_> {
        self.driver.link.watched()
    }

    /// When [`Self::ready`] has something to do even if nothing was heard.
    pub fn deadline(&self) -> Option<Instant> {
        self.driver.link.deadline(!self.queue.is_empty())
    }

    /// Whether lines still wait.
    pub fn has_more(&self) -> bool {
        !self.queue.is_empty() || self.driver.link.unanswered() > 0
    }

    /// What `logs` reads.
    pub fn cache(&mut self) -> Option<&mut json_file::Writer> {
        self.cache.as_mut()
    }
}
