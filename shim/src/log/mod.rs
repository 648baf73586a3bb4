//! What the payload writes, kept: in files of our own, or with another program.

pub mod attributes;
pub mod batch;
pub mod compress;
pub mod json_file;
pub mod lines;
pub mod options;
pub mod read;
pub mod remote;
mod values;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use contracts::container::Container;

use crate::container::Store;
pub use options::{DRIVERS, check};
pub use values::{Limits, buffer};

/// Which of the payload's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Where a container's log is, or what is kept of it for `logs`.
pub fn path(store: &Store, record: &Container) -> PathBuf {
    let config = &record.host_config.log_config;
    match config.config.get("path") {
        Some(path) if config.driver == "k8s-file" => path.into(),
        _ => store.log(&record.id),
    }
}

/// Whether the payload has the streams of whoever started it, and no log.
pub fn is_passthrough(record: &Container) -> bool {
    options::is_passthrough(&record.host_config.log_config.driver)
}

/// Whether `logs` has something to read.
pub fn is_readable(record: &Container) -> Result<bool> {
    let config = &record.host_config.log_config;
    Ok(match config.driver.as_str() {
        "none" | "passthrough" | "passthrough-tty" => false,
        driver if options::is_remote(driver) => values::cache(config)?.is_some(),
        _ => true,
    })
}

/// An open log.
pub enum Sink {
    /// Lines of JSON or of CRI, in files that rotate; also behind `local`.
    File(json_file::Writer),
    Remote(Box<remote::Writer>),
    None,
}

impl Sink {
    /// Opens the container's log.
    pub fn open(store: &Store, record: &Container) -> Result<Self> {
        let config = &record.host_config.log_config;
        Ok(match config.driver.as_str() {
            "none" | "passthrough" | "passthrough-tty" => Self::None,
            driver if options::is_remote(driver) => {
                Self::Remote(Box::new(remote::Writer::open(store, record)?))
            }
            driver => {
                let (path, limits) = (path(store, record), Limits::read(config)?);
                let mut writer = json_file::Writer::open(&path, limits, &attributes::of(record)?)?;
                if driver == "k8s-file" {
                    writer.as_cri();
                }
                Self::File(writer)
            }
        })
    }

    /// Takes what was read from a stream.
    ///
    /// # Errors
    /// The disk is full or broken, or a receiver is behind: nothing of `bytes` counts as taken, and the caller may
    /// offer it again.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<()> {
        match self {
            Self::File(writer) => writer.write(stream, bytes),
            Self::Remote(writer) => writer.write(stream, bytes),
            Self::None => Ok(()),
        }
    }

    /// Writes unfinished lines; at the end of a run.
    pub fn flush(&mut self) -> Result<()> {
        match self {
            Self::File(writer) => writer.flush(),
            Self::Remote(writer) => {
                writer.flush();
                Ok(())
            }
            Self::None => Ok(()),
        }
    }

    /// Readable when [`Self::ready`] has something to do.
    pub fn watched(&self) -> Option<BorrowedFd<'_>> {
        if let Self::Remote(writer) = self { Some(writer.watched()) } else { None }
    }

    /// When [`Self::ready`] has something to do in any case.
    pub fn deadline(&self) -> Option<Instant> {
        if let Self::Remote(writer) = self { writer.deadline() } else { None }
    }

    /// A receiver takes more, or answered.
    pub fn ready(&mut self) {
        if let Self::Remote(writer) = self {
            writer.ready();
        }
    }

    /// Whether lines that were taken are still on their way.
    pub fn has_more(&mut self) -> bool {
        let on_the_way = if let Self::Remote(writer) = self { writer.has_more() } else { false };
        on_the_way || self.file().is_some_and(|file| file.is_compressing())
    }

    /// A child of the supervisor ended; perhaps the one that compressed a file.
    pub fn child_ended(&mut self, pid: i32, code: i32) {
        if let Some(file) = self.file() {
            file.child_ended(pid, code);
        }
    }

    /// Gives back the memory that lines needed.
    pub fn rest(&mut self) {
        if let Some(file) = self.file() {
            file.rest();
        }
    }

    fn file(&mut self) -> Option<&mut json_file::Writer> {
        match self {
            Self::File(writer) => Some(writer),
            Self::Remote(writer) => writer.cache(),
            Self::None => None,
        }
    }
}
