//! The exit codes of the suite (`docs/exit-codes.md`).

use std::process::ExitCode;

use crate::fault::Kind;

/// How a tool ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Ok,
    /// It failed for a reason that has no code of its own.
    Failed,
    /// The command line or an input file was wrong.
    Usage,
    /// The named object does not exist.
    NotFound,
    /// The object exists already, or is in a state that does not allow this.
    Conflict,
    /// Somebody else uses it (a lock, a port, an image in use).
    Busy,
    /// A registry or another remote end failed or refused.
    Remote,
    /// This kernel or machine cannot do it.
    Unsupported,
    /// The code of a container's own process, or one fixed by a peer's contract (125, 126, 127, 128+n).
    Payload(u8),
}

impl Exit {
    /// The number that the caller sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Busy => 5,
            Self::Remote => 6,
            Self::Unsupported => 7,
            Self::Payload(code) => code,
        }
    }

    /// The exit of `run` and `exec` when the tool failed before the payload started: 126 where the program is not
    /// executable, 127 where it is not found, 125 for all else (as `docker run`).
    #[must_use]
    pub fn before_payload(err: &anyhow::Error) -> Self {
        Self::Payload(match Kind::of(err) {
            Some(Kind::CommandNotExecutable) => 126,
            Some(Kind::CommandNotFound) => 127,
            _ => 125,
        })
    }
}

impl From<&anyhow::Error> for Exit {
    fn from(err: &anyhow::Error) -> Self {
        match Kind::of(err) {
            Some(Kind::NotFound) => Self::NotFound,
            Some(Kind::Exists | Kind::WrongState) => Self::Conflict,
            Some(Kind::Busy) => Self::Busy,
            Some(Kind::Usage) => Self::Usage,
            Some(Kind::Unsupported) => Self::Unsupported,
            Some(Kind::Remote) => Self::Remote,
            Some(Kind::CommandNotExecutable) => Self::Payload(126),
            Some(Kind::CommandNotFound) => Self::Payload(127),
            Some(Kind::Denied) | None => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
