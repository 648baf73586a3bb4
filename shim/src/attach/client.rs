//! A connection to a supervisor, for requests with one answer.

use std::fmt;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::seqpacket;

use super::wire::{self, Exit, Reply, Request};
use crate::container::Store;

/// Connects to the supervisor of `id`; `None` where there is none.
pub fn connect(store: &Store, id: &str) -> Result<Option<OwnedFd>> {
    match seqpacket::connect(&store.live(id), "ctl") {
        Ok(socket) => Ok(Some(socket)),
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(err) => Err(err).with_context(|| format!("connect to the supervisor of {id}")),
    }
}

/// The supervisor died before it answered: what was asked may have been done or not.
#[derive(Debug)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the supervisor went away")
    }
}

impl std::error::Error for Gone {}

/// Sends a request on a fresh connection.
pub fn ask(socket: &OwnedFd, request: &Request) -> Result<()> {
    match seqpacket::send(socket, &message(wire::REQUEST, request)) {
        Err(err) if matches!(err.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            Err(Gone.into())
        }
        other => other.context("ask the supervisor"),
    }
}

/// A message with a JSON payload.
pub fn message(kind: u8, value: &impl Serialize) -> Vec<u8> {
    let mut message = vec![kind];
    // These types always encode: plain numbers and strings.
    message.extend_from_slice(&serde_json::to_vec(value).unwrap_or_default());
    message
}

/// Asks something that is answered by success or an error.
pub fn request(store: &Store, id: &str, request: &Request) -> Result<()> {
    let Some(socket) = connect(store, id)? else { bail!("container {id} has no supervisor") };
    ask(&socket, request)?;
    answer(&socket)
}

/// Waits for the answer to what was asked.
pub fn answer(socket: &OwnedFd) -> Result<()> {
    let reply: Reply = next(socket, wire::REPLY)?.ok_or(Gone)?;
    match reply.error {
        Some(error) => bail!(error),
        None => Ok(()),
    }
}

/// Asks and waits for the payload's end; `None` where the supervisor died first.
pub fn until_exit(socket: &OwnedFd, request: &Request) -> Result<Option<Exit>> {
    ask(socket, request)?;
    exit(socket)
}

/// Waits for the payload's end; `None` where the supervisor died first.
pub fn exit(socket: &OwnedFd) -> Result<Option<Exit>> {
    next(socket, wire::EXIT)
}

fn next<T: DeserializeOwned>(socket: &OwnedFd, kind: u8) -> Result<Option<T>> {
    let mut buffer = vec![0; wire::CHUNK + 1];
    loop {
        let length = match seqpacket::receive(socket, &mut buffer) {
            // It ended without reading all that was sent.
            Err(err) if err.kind() == ErrorKind::ConnectionReset => 0,
            other => other.context("read from the supervisor")?,
        };
        match buffer[..length].split_first() {
            None => return Ok(None),
            Some((&found, payload)) if found == kind => {
                return serde_json::from_slice(payload).map(Some).context("read the supervisor's answer");
            }
            Some(_) => {}
        }
    }
}
