//! `shim`: containers without a daemon, one small supervisor process each.
//!
//! Owns `STORE/containers`, `STORE/names`, `STORE/volumes`, `STORE/events.json` and `STATE/shim`. Executes `imgtool`
//! (bundles), `netctl` (networks), the OCI runtime, and itself as `shim supervise ID`. Exit codes:
//! `docs/exit-codes.md`; `run`, `exec` and `start -a` give the payload's own, or 125, 126, 127.

mod attach;
mod cgroup;
mod cli;
mod cmd;
mod conmon;
mod container;
mod containerd;
mod copy;
mod events;
mod init;
mod inspect;
mod log;
mod migrate;
mod oom;
mod request;
mod show;
mod spec;
mod supervisor;
mod tools;
mod volume;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use contracts::exit::Exit;
use contracts::fault::{Fault, Kind};
use contracts::report;

// Most commands live for a few milliseconds: `sys::heap` says what musl's heap costs them.
#[global_allocator]
static HEAP: sys::heap::Heap<{ 4 << 10 }> = sys::heap::Heap::new();

fn main() -> ExitCode {
    #[cfg(feature = "self-doc")]
    if let Some(result) = contracts::self_doc::asked_of("shim", cli::command) {
        return contracts::report::finish("shim", result);
    }
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let word = |at: usize| arguments.get(at).and_then(|word| word.to_str()).unwrap_or_default();
    // Before any parsing: these two live as long as a container, and stay as small as they began.
    if word(0).ends_with("docker-init") {
        return init::main(&arguments[1..]).into();
    }
    if word(1) == "supervise" {
        return supervisor::main(word(2), word(3), word(4)).into();
    }
    if word(1) == "compress-log"
        && let Some(to) = arguments.get(2)
    {
        return log::compress::main(to.as_ref()).into();
    }
    if word(0) == "conmon" || word(0).ends_with("/conmon") {
        return conmon::main(&arguments[1..]);
    }
    if word(1) == "conmon" {
        return conmon::main(&arguments[2..]);
    }
    if containerd::is_name(word(0)) {
        return containerd::main(&arguments[1..]);
    }
    if word(1) == "containerd-shim" {
        return containerd::main(&arguments[2..]);
    }
    let payload =
        matches!(word(1), "run" | "exec") || (word(1) == "container" && matches!(word(2), "run" | "exec"));
    if word(1) == "send-backlog" {
        return report::finish("shim", attach::backlog::send(&arguments[2..]).map(|()| Exit::Ok));
    }
    if word(1) == "hold-terminal" {
        attach::local::hold();
        return ExitCode::SUCCESS;
    }
    match cli::parse(arguments.clone()) {
        Ok(cli) => cmd::run(cli.verb),
        Err(err) => usage(&err, payload),
    }
}

/// Help goes to stdout and is a success; a wrong flag is 2, or 125 where the code may be a payload's.
fn usage(err: &clap::Error, payload: bool) -> ExitCode {
    let flag = err.get(ContextKind::InvalidArg).map(ToString::to_string);
    if err.kind() == ErrorKind::UnknownArgument
        && let Some((flag, why)) = flag.and_then(|flag| cli::foreign::why(&flag).map(|why| (flag, why)))
    {
        let fault = Fault::new(Kind::Unsupported, format!("{flag} is not supported: {why}"));
        report::print_error("shim", &fault.into());
        return if payload { Exit::Payload(125).into() } else { Exit::Unsupported.into() };
    }
    let verb = err.get(ContextKind::InvalidSubcommand).map(ToString::to_string);
    if let Some((verb, why)) = verb.and_then(|verb| cli::foreign::whose(&verb).map(|why| (verb, why))) {
        let fault = Fault::new(Kind::Unsupported, format!("{verb} is no verb of shim: {why}"));
        report::print_error("shim", &fault.into());
        return Exit::Unsupported.into();
    }
    let _ = err.print();
    let _ = std::io::stdout().flush();
    match err.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if payload => Exit::Payload(125).into(),
        _ => Exit::Usage.into(),
    }
}

/// The error's end of every command.
fn finish(result: anyhow::Result<Exit>) -> ExitCode {
    report::finish("shim", result)
}
