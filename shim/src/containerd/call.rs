//! One call: who asked, its message, its answer.

use anyhow::Result;

use super::proto::Empty;
use super::status::{Code, Status};

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub connection: u64,
    pub stream: u32,
}

/// What a call gives now: the answer's bytes, or nothing where it is given later.
pub type Answer = Result<Option<Vec<u8>>>;

/// An answer of this message.
#[allow(clippy::unnecessary_wraps)] // every call ends with it
pub fn answer(message: &impl prost::Message) -> Answer {
    Ok(Some(message.encode_to_vec()))
}

/// The answer that says nothing.
pub fn done() -> Answer {
    answer(&Empty {})
}

/// A request's message.
pub fn read<M: prost::Message + Default>(body: &[u8]) -> Result<M> {
    M::decode(body).map_err(|err| Status::error(Code::InvalidArgument, format!("read the request: {err}")))
}
