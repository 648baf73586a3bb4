//! Errors as containerd's clients tell them apart: gRPC's codes.

use std::fmt;

use super::proto::ttrpc;

/// The codes in use (google.rpc.Code).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
}

/// An error with its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub code: Code,
    pub message: String,
}

impl Status {
    /// An error of that code.
    pub fn error(code: Code, message: impl Into<String>) -> anyhow::Error {
        Self { code, message: message.into() }.into()
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> anyhow::Error {
        Self::error(Code::NotFound, message)
    }

    /// Not in this state.
    pub fn precondition(message: impl Into<String>) -> anyhow::Error {
        Self::error(Code::FailedPrecondition, message)
    }

    /// How an error travels: its own code where it has one, in one line.
    pub fn encode(err: &anyhow::Error) -> ttrpc::Status {
        let code = err.downcast_ref::<Self>().map_or(Code::Unknown, |status| status.code);
        ttrpc::Status { code: code as i32, message: contracts::report::one_line(err), details: Vec::new() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_code_survives_context() {
        let err = Err::<(), _>(Status::not_found("container c: not found")).context("kill").unwrap_err();
        let status = Status::encode(&err);
        assert_eq!((status.code, status.message.as_str()), (5, "kill: container c: not found"));
        assert_eq!(Status::encode(&anyhow::anyhow!("x")).code, 2);
    }
}
