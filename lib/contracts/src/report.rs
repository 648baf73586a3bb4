//! The end of every `main`: print an error once, as one line, and choose the exit code.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::exit::Exit;

/// Prints the error of `result`, if any, as `tool: what: why` and turns it into the exit code.
///
/// A reader that went away (`tool … | head -1`) is not an error.
pub fn finish(tool: &str, result: anyhow::Result<Exit>) -> ExitCode {
    settle(tool, result).into()
}

/// As [`finish`], for `run` and `exec`: every failure before the payload starts is 125, 126 or 127.
pub fn finish_payload(tool: &str, result: anyhow::Result<Exit>) -> ExitCode {
    settle_payload(tool, result).into()
}

/// As [`finish`], where Rust's own `main` is not what returns it.
pub fn settle(tool: &str, result: anyhow::Result<Exit>) -> Exit {
    result.unwrap_or_else(|err| {
        if is_broken_pipe(&err) {
            return Exit::Ok;
        }
        print_error(tool, &err);
        Exit::from(&err)
    })
}

/// As [`finish_payload`], where Rust's own `main` is not what returns it.
pub fn settle_payload(tool: &str, result: anyhow::Result<Exit>) -> Exit {
    result.unwrap_or_else(|err| {
        print_error(tool, &err);
        Exit::before_payload(&err)
    })
}

/// Writes the one line of an error to stderr.
pub fn print_error(tool: &str, err: &anyhow::Error) {
    say(format_args!("{tool}: {}", one_line(err)));
}

/// Writes one line to stderr in one piece, so that the lines of several processes do not mix and none is half there.
/// A stderr that cannot be written to is nobody's to report to.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The whole chain of an error on one line: `doing what to what: why`.
#[must_use]
pub fn one_line(err: &anyhow::Error) -> String {
    let text = format!("{err:#}");
    text.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

fn is_broken_pipe(err: &anyhow::Error) -> bool {
    err.chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
