//! `shim logs`

use std::io::{self, Write as _};

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::cli::LogsFlags;
use crate::container::{Store, status};
use crate::log::Stream;
use crate::log::read::{Line, Reader, Watch, time};

pub fn run(store: &Store, flags: &LogsFlags) -> Result<Exit> {
    let id = store.resolve(&flags.container)?;
    let record = store.load(&id)?;
    if !crate::log::is_readable(&record)? {
        fault!(Unsupported, "configured logging driver does not support reading");
    }
    let since = flags.since.as_deref().map(time).transpose()?;
    let until = flags.until.as_deref().map(time).transpose()?;
    let path = crate::log::path(store, &record);
    // Before the first look at the file: nothing that comes later can be missed.
    let owner = status::read(store, &id)?.owner;
    let watch = if flags.follow { Some(Watch::new(&path, owner)?) } else { None };
    // As docker: what is no number shows all.
    let mut reader = Reader::open(&path, flags.tail.parse().ok())?;
    let mut out = Out::new(flags);
    loop {
        while let Some(line) = reader.next()? {
            if until.as_ref().is_some_and(|until| line.time > *until) {
                out.flush()?;
                return Ok(Exit::Ok);
            }
            if since.as_ref().is_none_or(|since| line.time >= *since) {
                out.line(&line)?;
            }
        }
        if reader.refresh() {
            continue;
        }
        out.flush()?;
        let Some(watch) = &watch else { return Ok(Exit::Ok) };
        if !watch.wait()? {
            // One last look: it wrote until it ended.
            while let Some(line) = reader.next()? {
                out.line(&line)?;
            }
            if !reader.refresh() {
                out.flush()?;
                return Ok(Exit::Ok);
            }
        }
    }
}

/// stdout and stderr, in pieces large enough to be fast.
struct Out<'a> {
    flags: &'a LogsFlags,
    bytes: Vec<u8>,
    stream: Stream,
}

impl<'a> Out<'a> {
    fn new(flags: &'a LogsFlags) -> Self {
        Self { flags, bytes: Vec::new(), stream: Stream::Stdout }
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        if self.stream != line.stream() || self.bytes.len() > 64 << 10 {
            self.flush()?;
            self.stream = line.stream();
        }
        if self.flags.timestamps {
            self.bytes.extend_from_slice(line.time.as_bytes());
            self.bytes.push(b' ');
        }
        if self.flags.details {
            let pairs: Vec<String> = line.attrs.iter().map(|(key, value)| format!("{key}={value}")).collect();
            self.bytes.extend_from_slice(pairs.join(",").as_bytes());
            self.bytes.push(b' ');
        }
        self.bytes.extend_from_slice(line.log.as_bytes());
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match self.stream {
            Stream::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(&self.bytes)?;
                out.flush()?;
            }
            Stream::Stderr => io::stderr().write_all(&self.bytes)?,
        }
        self.bytes.clear();
        Ok(())
    }
}
